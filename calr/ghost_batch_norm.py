"""Ghost batch normalisation (Hoffer et al., NeurIPS 2017): statistics over parts of a batch, as several devices would
take them. CALR normalises over 64 images a device; one large device that takes all 256 at once learns another thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GhostBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation over (B, D) in parts of `ghost` rows; the last part may be smaller, but not a single row."""

    ghost: int

    def forward(self, input: Tensor) -> Tensor:
        """(B, D) -> (B, D). Running statistics move once, by the parts' mean; in evaluation mode there are no parts."""
        return _in_parts(self, super().forward, input)


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over (B, C, h, w) in parts of `ghost` images, otherwise as `GhostBatchNorm1d`."""

    ghost: int

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w). See `GhostBatchNorm1d`."""
        return _in_parts(self, super().forward, input)


_GhostBatchNorm = GhostBatchNorm1d | GhostBatchNorm2d
_GHOSTS: dict[type[nn.Module], type[_GhostBatchNorm]] = {
    nn.BatchNorm1d: GhostBatchNorm1d,
    nn.BatchNorm2d: GhostBatchNorm2d,
}


def use_ghost_batches(net: nn.Module, ghost: int) -> None:
    """Replace every batch normalisation of a network, in place; parameters, their names and evaluation stay the same.

    Args:
        net: the network.
        ghost: images a part has, at least 2.
    """
    if ghost < 2:
        raise ValueError(f"a part of {ghost} images has no variance; use at least 2")
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            kind = _GHOSTS.get(type(child))
            if kind is not None:
                setattr(parent, name, _replacement(kind, child, ghost))


def _replacement(kind: Any, norm: Any, ghost: int) -> nn.Module:
    new: nn.Module = kind(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, norm.running_mean.device
    )
    new._parameters.update(norm._parameters)
    new._buffers.update(norm._buffers)
    new.ghost = ghost  # type: ignore[assignment]
    return new.train(norm.training)


def _in_parts(norm: _GhostBatchNorm, forward: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    if not norm.training or len(batch) <= norm.ghost:
        return forward(batch)
    parts = list(torch.split(batch, norm.ghost))
    if len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]  # one image alone has no variance
    running_mean, running_var, momentum = norm.running_mean, norm.running_var, norm.momentum
    assert running_mean is not None and running_var is not None and momentum is not None
    means, variances, out = [], [], []
    for part in parts:
        # Statistics that move by all of a step are the part's own.
        means.append(torch.zeros_like(running_mean))
        variances.append(torch.zeros_like(running_var))
        out.append(F.batch_norm(part, means[-1], variances[-1], norm.weight, norm.bias, True, 1.0, norm.eps))
    # Once for the batch and not part after part, so that parts may be computed by different processes.
    running_mean.lerp_(torch.stack(means).mean(0), momentum)
    running_var.lerp_(torch.stack(variances).mean(0), momentum)
    joined = torch.cat(out)
    channels_last = batch.ndim == 4 and batch.is_contiguous(memory_format=torch.channels_last)
    return joined.contiguous(memory_format=torch.channels_last) if channels_last else joined
