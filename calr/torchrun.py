"""Processes that torchrun started together: joining them, and which one is the first. torch is only imported where
there are several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this is the process that decides, writes and speaks; the only one is the first."""
    return not _started_by_torchrun() or os.environ["RANK"] == "0"


def own_file(path: Path) -> Path:
    """A name next to `path` that no other process uses; `path` itself for the first."""
    return path if is_first() else path.with_name(f"{path.name}-{os.environ['RANK']}")


@contextmanager
def torchrun() -> Iterator[None]:
    """Join the others for the time of the context; nothing where there are none.

    NCCL with a GPU each where there are GPUs, gloo otherwise.
    """
    if not _started_by_torchrun():
        yield
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if _started_by_torchrun():
        import torch.distributed as dist

        dist.barrier()
