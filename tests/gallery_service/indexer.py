"""The index command as a child process that can be killed at a chosen point: python -m ... SITE POINT NUMBER.

The embedder is a stand-in (the average colour of a grid of fields), since what is tested is what is left on disk, and a
dozen children that each load a network take minutes.
"""

from __future__ import annotations

import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np


class ColourEmbedder:
    """Embeds by colour, deterministically, in the model's dimension."""

    def __init__(self, bundle: Any, **_: object) -> None:
        self.dim, self.version = bundle.embedding_dim, bundle.version

    def embed(self, crops: Sequence[Any], batch_size: int = 32) -> Any:
        """As `models.embedder.Embedder.embed`."""
        rows = [cv2.resize(crop, (4, 8), interpolation=cv2.INTER_AREA).ravel() for crop in crops]
        vectors = np.zeros((len(crops), self.dim), np.float32)
        if rows:
            vectors[:, :96] = np.stack(rows).astype(np.float32) + 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def use_colours(embedder: type[ColourEmbedder] = ColourEmbedder) -> None:
    """Put a stand-in in the network's place, without importing what the network needs."""
    module = types.ModuleType("models.embedder")
    module.Embedder = embedder  # type: ignore[attr-defined]
    sys.modules["models.embedder"] = module


def kill_at(owner: Any, name: str, number: int, *, after: bool = False) -> None:
    """Kill this process, as kill -9 does, at the `number`-th call of a function."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def main(site: str, point: str, number: int) -> None:
    """Index a site and be killed on the way (never, with point "none")."""
    use_colours()
    from sqlalchemy.orm import Session

    from gallery_service.indexing import build
    from gallery_service.storage.repository import GalleryRepository
    from ingest.site import load_site
    from ingest.workspace import Workspace

    points: dict[str, Callable[[], None]] = {
        "none": lambda: None,
        "before embedding": lambda: kill_at(build, "embed_shard", number),
        "while a segment is written": lambda: kill_at(pathlib.Path, "replace", number),
        "before rows": lambda: kill_at(GalleryRepository, "put_shard", number),
        "inside the transaction": lambda: kill_at(Session, "commit", number),
        "after rows": lambda: kill_at(GalleryRepository, "put_shard", number, after=True),
        "before it is complete": lambda: kill_at(GalleryRepository, "complete", number),
        "before the status": lambda: kill_at(Workspace, "write_status", number),
    }
    points[point]()
    build.build_gallery(load_site(site), quiet=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
