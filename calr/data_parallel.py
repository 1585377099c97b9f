"""Training on several processes (`torchrun`) that gives what one process gives.

The encoder's passes are split, nothing else: a process sends its part of a batch through the network, features are
gathered, and every process computes the losses of the whole batch from them. Its own part's gradient is then complete,
so the parameters' gradients are the sum over the processes. Who is who is decided by the first process and told to the
others. Batches are split between ghost batches (`calr.ghost_batch_norm`), never inside one, so normalisation sees the
same images whatever the number of processes.

Without torchrun everything here is the trivial case of one process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from calr.torchrun import is_first

Found = tuple[dict[str, Any], dict[str, NDArray[np.int64]]]
"""What an epoch's clustering found: its part of the record, and labels by name."""


def processes() -> int:
    """How many train together."""
    count: int = dist.get_world_size() if dist.is_initialized() else 1
    return count


def shares(n: int, unit: int = 1) -> list[slice]:
    """How n items are divided: a slice for each process, in order, in whole units.

    The last unit may be smaller, but not a single item (which has no variance to normalise by): that goes with the unit
    before. A process may get nothing.
    """
    count = units(slice(0, n), unit)
    ends = [count * (p + 1) // processes() * unit for p in range(processes())]
    ends[-1] = n
    return [slice(min(start, n), min(end, n)) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def units(part: slice, unit: int) -> int:
    """How many units a share has (see `shares`)."""
    size: int = part.stop - part.start
    single = unit > 1 and size > unit and size % unit == 1
    return -(-size // unit) - int(single)


def own_share(n: int, unit: int = 1) -> slice:
    """This process's part of n items."""
    return shares(n, unit)[0 if not dist.is_initialized() else dist.get_rank()]


def gather(part: Tensor, n: int, unit: int = 1) -> Tensor:
    """The rows of all processes, in order; a gradient flows into this process's own.

    part (own share of n, D), on the device that the processes talk through -> (n, D).
    """
    if processes() == 1:
        return part
    divided = shares(n, unit)
    longest = max(s.stop - s.start for s in divided)
    padded = part.new_zeros((longest, *part.shape[1:]))
    padded[: len(part)] = part.detach()
    everyone = [torch.empty_like(padded) for _ in divided]
    dist.all_gather(everyone, padded)
    rows = [theirs[: s.stop - s.start] for theirs, s in zip(everyone, divided, strict=True)]
    rows[dist.get_rank()] = part
    return torch.cat(rows)


def combine(net: nn.Module, weight: float) -> None:
    """After the backward pass: sum the gradients over the processes, and average the running statistics.

    Args:
        net: the same parameters in every process.
        weight: of this process's running statistics; 1 over all processes.
    """
    if processes() == 1:
        return
    learning = [p for p in net.parameters() if p.requires_grad]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in learning if p.grad is not None]
    statistics = [b for b in net.buffers() if b.is_floating_point()]
    both = torch.cat([*(g.reshape(-1) for g in gradients), *(weight * b.reshape(-1) for b in statistics)])
    dist.all_reduce(both)
    sizes = [tensor.numel() for tensor in [*gradients, *statistics]]
    for tensor, summed in zip([*gradients, *statistics], torch.split(both, sizes), strict=True):
        tensor.copy_(summed.view_as(tensor))


def same_everywhere(net: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if processes() > 1:
        for tensor in net.state_dict().values():
            dist.broadcast(tensor, 0)


def agree(find: Callable[[], Found], device: str) -> Found:
    """What the first process finds, for all of them.

    Args:
        find: called in the first process only.
        device: that the processes talk through.
    """
    if processes() == 1:
        return find()
    from safetensors.numpy import load, save

    size = torch.zeros(2, dtype=torch.int64, device=device)
    message = torch.zeros(0, dtype=torch.uint8, device=device)
    if is_first():
        record, labels = find()
        text = json.dumps(record).encode()
        tensors = save({name: np.ascontiguousarray(found) for name, found in labels.items()})
        message = torch.frombuffer(bytearray(text + tensors), dtype=torch.uint8).to(device)
        size += torch.tensor([len(text), len(tensors)], device=device)
    dist.broadcast(size, 0)
    text_size, tensor_size = size.tolist()
    if not is_first():
        message = torch.zeros(text_size + tensor_size, dtype=torch.uint8, device=device)
    dist.broadcast(message, 0)
    content = message.cpu().numpy().tobytes()
    return json.loads(content[:text_size]), load(content[text_size:])
