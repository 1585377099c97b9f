"""What a killed run continues from: one safetensors file per finished epoch, whole or not there.

A checkpoint is written to a temporary name, flushed and renamed, and only then are older ones removed. It holds the
network, the optimiser, the parts of the objective that learn, the labels, and in its JSON header the history of all
epochs so far. No random state: every epoch seeds its own (`training_loop.epoch_seed`). No cluster memory: each epoch
builds it anew from its labels and features.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.atomic import write_bytes

SCHEMA = 1
KEPT = 2
_NAME = re.compile(r"(\d{4})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """tensors by name, state: anything JSON can hold; number: how many epochs of both stages are done."""

    number: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, kept: int | None = KEPT) -> Path:
    """Write a checkpoint and remove all but the last `kept` (None: keep all). Returns its file."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{checkpoint.number:04d}.safetensors"
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in checkpoint.tensors.items()}
    header = {"calr": json.dumps({"schema": SCHEMA, **checkpoint.state}, sort_keys=True)}
    write_bytes(path, save(tensors, metadata=header))
    # A run has one writer (the workspace's lock): unfinished files are those of attempts that were killed.
    for old in [*_numbered(folder)[: -(kept or sys.maxsize)], *folder.glob(".*.tmp")]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None. A damaged one is passed over for the one before it."""
    return next((found for path in reversed(_numbered(folder)) if (found := _read(path)) is not None), None)


def kept_checkpoints(folder: Path) -> Iterator[Checkpoint]:
    """All checkpoints that can be read, oldest first."""
    return (found for path in _numbered(folder) if (found := _read(path)) is not None)


def _read(path: Path) -> Checkpoint | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["calr"])
            if state.pop("schema") != SCHEMA:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return Checkpoint(int(path.stem), tensors, state)


def _numbered(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.safetensors") if _NAME.fullmatch(p.name)) if folder.is_dir() else []


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers, named `prefix.name`."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def restore_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put them back. Raises KeyError or RuntimeError where they do not fit."""
    own = module.state_dict()
    module.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in own})


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state, named `optimiser.<parameter number>.<key>`."""
    return {
        f"optimiser.{number}.{key}": value
        for number, entry in optimiser.state_dict()["state"].items()
        for key, value in entry.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put it back, in the memory layout of the parameters, so that every later step rounds as it would have."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.state.clear()
    for name, value in tensors.items():
        if not name.startswith("optimiser."):
            continue
        _, number, key = name.split(".")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and key != "step":
            value = torch.empty_like(parameter).copy_(value)
        optimiser.state[parameter][key] = value
