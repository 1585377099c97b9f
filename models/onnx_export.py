"""From a trained network to an ONNX graph that carries its own normalisation."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from models.atomic import write_bytes
from models.bundle import INPUT, OUTPUT
from models.onnx_session import make_session
from models.pooling import Pooling
from models.preprocess import normalise
from models.reid import ReidNet, build_reid

OPSET = 18
"""The oldest opset that torch's exporter writes without conversion; with it comes IR version 10, which every
onnxruntime from 1.18 on loads."""

PARITY = 1e-4
"""Largest difference of any embedding component between torch and the exported graph, both in float32 on the CPU.
Components of a unit vector are of the order 1/√D ≈ 0.02 to 0.04; measured differences are around 1e-6."""


class ExportError(ValueError):
    """The network cannot be exported, or the exported graph does not compute the same."""


class _Embedding(nn.Module):
    """What the graph holds: RGB 0..255 in, unit vectors out."""

    def __init__(self, net: ReidNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.net(normalise(images)), dim=1)


def export_onnx(net: ReidNet, path: str | Path, input_size: tuple[int, int], opset: int = OPSET) -> float:
    """Write ``net`` as ONNX and prove that the file computes the same.

    The graph has one input ``images``, float32 (N, 3, height, width), RGB 0..255, N free, and one output
    ``embeddings``, float32 (N, D), rows of length 1.

    Args:
        net: the network; it is not changed, whatever its device and mode.
        path: the file to write, atomically.
        input_size: (height, width).
        opset: ONNX operator set.

    Returns:
        The largest absolute difference from torch that was seen, for batches of 1 and of 3.

    Raises:
        ExportError: the exporter failed, or that difference is above :data:`PARITY`.
    """
    module = _Embedding(copy.deepcopy(net).cpu().float()).eval()
    write_bytes(path, _serialise(module, input_size, opset))
    return _check_parity(module, Path(path), input_size)


def _serialise(module: _Embedding, input_size: tuple[int, int], opset: int) -> bytes:
    net = module.net
    try:
        with _quiet():
            program = _traced(net.arch, net.pooling, input_size, opset)
            traced = program.model
            program.model = traced.clone()
            try:
                program.apply_weights(module.state_dict())
                program.optimize()
                model: Any = program.model_proto
            finally:
                program.model = traced
    except Exception as error:
        raise ExportError(f"{net.arch} cannot be exported at {input_size[0]}×{input_size[1]}: {error}") from error
    # The exporter notes where each node came from: file paths of this machine, and bytes that differ between machines.
    for holder in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del holder.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
    return bytes(model.SerializeToString(deterministic=True))


@lru_cache(maxsize=1)
def _traced(arch: str, pooling: Pooling, input_size: tuple[int, int], opset: int) -> Any:
    """The graph of such a network, with whatever weights: tracing takes most of the time, and a site exports two of a
    kind, the start and what came of it."""
    with torch.random.fork_rng(devices=[]):  # whoever draws from it next must not notice
        net = build_reid(arch, pooling=pooling)
    # A batch of 2: torch.export takes a size of 1 for a constant.
    return torch.onnx.export(
        _Embedding(net).eval(),
        (torch.zeros(2, 3, *input_size),),
        dynamo=True,
        optimize=False,  # folds weights into each other, once they are the right ones
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        opset_version=opset,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter narrates on stdout, which belongs to JSON, and warns about its own internals."""
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter_log.setLevel(level)


def _check_parity(module: nn.Module, path: Path, input_size: tuple[int, int]) -> float:
    session = make_session(path, precision="exact")
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in (1, 3):
        images = torch.rand((batch, 3, *input_size), generator=generator) * 255
        with torch.inference_mode():
            wanted = module(images).numpy()
        got = session.run([OUTPUT], {INPUT: images.numpy()})[0]
        if got.shape != wanted.shape:
            raise ExportError(f"{path}: the graph gives {got.shape} for a batch of {batch}, torch {wanted.shape}")
        # Not Python's max(), which would lose a NaN.
        worst = float(np.maximum(worst, np.abs(got - wanted).max()))
    if not worst <= PARITY:
        raise ExportError(
            f"{path}: the graph differs from torch by {worst:.2e}, allowed is {PARITY:.0e}; do not use it"
        )
    return worst
