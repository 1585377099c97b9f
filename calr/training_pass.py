"""Images through the network for training.

On a GPU the pass is recorded when a batch has another shape than the last, and replayed as a CUDA graph: the kernels of
a small network are done sooner than Python can ask for the next one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from calr.precision import Precision
from models.preprocess import normalise
from models.reid import ReidNet

Forward = Callable[[Tensor], Tensor]
"""(B, 3, h, w) RGB in 0..255, B may be 0 -> features (B, D) float32 with a gradient."""


def training_pass(net: ReidNet, precision: Precision) -> Forward:
    """The network's pass, in the number format of training.

    Args:
        net: in training mode whenever the pass is used; its parameters and buffers must stay where they are in memory.
        precision: device and number format.
    """
    forward: Forward = _Recorded(net, precision) if precision.device == "cuda" else _Pass(net, precision)
    nobody = torch.zeros((0, net.embedding_dim), device=precision.device)
    return lambda images: forward(_normalised(images)) if len(images) else nobody


def _normalised(images: Tensor) -> Tensor:
    return normalise(images).contiguous(memory_format=torch.channels_last)


class _Pass(nn.Module):
    def __init__(self, net: ReidNet, precision: Precision) -> None:
        super().__init__()
        self.net, self.precision = net, precision

    def forward(self, images: Tensor) -> Tensor:
        # Without the cache, because a graph needs the conversion of weights in it.
        with self.precision.autocast(cache=self.precision.device == "cpu"):
            features: Tensor = self.net(images)
        return features.float()


class _Recorded:
    def __init__(self, net: ReidNet, precision: Precision) -> None:
        self._net, self._precision = net, precision
        self._shape: torch.Size | None = None
        self._graph: Forward | None = None

    def __call__(self, images: Tensor) -> Tensor:
        if self._graph is None or images.shape != self._shape:
            # The batches of an epoch have one shape. The graph of another would keep its memory for itself.
            self._graph, self._shape = None, images.shape
            self._graph = self._record(images)
        return self._graph(images)

    def _record(self, images: Tensor) -> Forward:
        # Gradients are gathered on the stream of the recording; torch would warn of it once.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        buffers = list(self._net.buffers())
        before = [buffer.clone() for buffer in buffers]
        recorded = _Pass(self._net, self._precision)  # gets another forward method
        torch.cuda.make_graphed_callables(recorded, (torch.empty_like(images).copy_(images),), allow_unused_input=True)
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)  # recording runs the pass several times
        return recorded
