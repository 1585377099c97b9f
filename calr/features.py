"""Features of all crops, as clustering sees them: the network in evaluation mode, no augmentation, length 1."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from calr.data_parallel import gather, own_share
from calr.precision import Precision
from models.preprocess import normalise

WORTH_COMPILING = 1000
"""Crops from which on compiling the network (about 4 s) pays: on 2 cores without bfloat16 OSNet x0.25 gave 575 crops/s
through OpenVINO and 99 in PyTorch, both float32."""

Forward = Callable[[Tensor], Tensor]


@torch.no_grad()
def extract(
    net: nn.Module,
    images: Tensor,
    precision: Precision,
    batch_size: int = 64,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """L2-normalised features.

    Args:
        net: maps normalised images (B, 3, h, w) to (B, D). Left in the mode (training or evaluation) it came in.
        images: (N, 3, h, w) uint8 RGB.
        precision: device and number format to compute with.
        batch_size: images at once.
        on_step: told (done, total) after every batch.

    Returns:
        (N, D) float32, in the order of `images`.
    """
    training = net.training
    net.eval()
    compiled = precision.device == "cpu" and len(images) >= WORTH_COMPILING and find_spec("openvino") is not None
    forward = _openvino(net, images, precision) if compiled else _eager(net, precision)
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(images), batch_size):
        out = forward(normalise(precision.place(images[start : start + batch_size]).float()))
        parts.append(F.normalize(out.float(), dim=1).cpu().numpy())
        on_step(min(start + batch_size, len(images)), len(images))
    net.train(training)
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def extract_together(
    net: nn.Module,
    images: Tensor,
    precision: Precision,
    batch_size: int,
    on_step: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """The same, the images divided between the processes that train together: each gets all features, and all must call
    it. `on_step` is told about this process's share."""
    part = extract(net, images[own_share(len(images))], precision, batch_size, on_step)
    return gather(precision.place(torch.from_numpy(part)), len(images)).cpu().numpy()


def _eager(net: nn.Module, precision: Precision) -> Forward:
    def forward(batch: Tensor) -> Tensor:
        with precision.autocast():
            out: Tensor = net(batch.contiguous(memory_format=torch.channels_last))
        return out

    return forward


def _openvino(net: nn.Module, images: Tensor, precision: Precision) -> Forward:
    """The network as OpenVINO compiles it for this processor: layers fused, which PyTorch in eager mode does not."""
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = normalise(images[:2].float())
    # What openvino.convert_model does, without its usage statistics, which it would send over the network.
    reader = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are fixed here
        decoder = TorchScriptPythonDecoder(net, example_input=(example,))  # must outlive the conversion
        model = reader.convert(reader.load(decoder))
    # The batch stays open: the last one is smaller.
    model.reshape([-1, *example.shape[1:]])
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision.bf16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # else every process on this machine works on the same, first cores
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda batch: torch.from_numpy(np.array(compiled(batch.contiguous().numpy())[0]))
