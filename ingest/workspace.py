"""A site's workspace: where every stage keeps what it made, and the lock that lets one of them write at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ingest.site import SiteConfig, sites_folder
from models.atomic import make_folder, write_json

_LOCK, _GALLERY_LOCK = ".lock", ".lock-gallery"
_STAGE = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class WorkspaceBusy(ValueError):  # noqa: N818 a state of the workspace, met by waiting
    """Another process writes into the workspace; the message says which."""


class Workspace:
    """The folders of one site.

    Args:
        site: its root is $CALR_SITES/<name> (default ./sites/<name>), or the site's own folder when the site was named
            by its path.

    Nothing is created before it is needed.
    """

    def __init__(self, site: SiteConfig) -> None:
        self.site = site
        self.root: Path = site.folder if site.by_path else (sites_folder() / site.name).absolute()

    @property
    def shards(self) -> Path:
        """`<camera>/<shard-id>/`: what ingest made."""
        return self.root / "shards"

    @property
    def runs(self) -> Path:
        """`<run-id>/`: training runs."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """`<version>/`: model bundles."""
        return self.root / "models"

    @property
    def gallery(self) -> Path:
        """The gallery's database, and `<version>/` with each model's vectors."""
        return self.root / "gallery"

    @property
    def status(self) -> Path:
        """`<stage>.json`: what each stage last did."""
        return self.root / "status"

    @property
    def erasures(self) -> Path:
        """What was erased and must never be ingested again, one JSON object a line."""
        return self.root / "erasures.jsonl"

    def lock(self) -> AbstractContextManager[None]:
        """Be the one writer of shards, runs and models. The lock ends with the process that holds it, however that
        ends.

        Raises:
            WorkspaceBusy: another process holds it.
        """
        return self._locked(_LOCK)

    def gallery_lock(self) -> AbstractContextManager[None]:
        """Be the one writer of the gallery's vectors. A lock of its own, since embedding a whole site with a new model
        may take hours, in which new recordings still come in.

        Raises:
            WorkspaceBusy: another process holds it.
        """
        return self._locked(_GALLERY_LOCK)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        make_folder(self.root)
        path = self.root / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip() or "another process"
                raise WorkspaceBusy(
                    f"{self.root}: in use by {holder}; wait until that is done, or stop it and run this again"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}: {shlex.join(sys.argv)[:800]}\n".encode(), 0)
            try:
                yield
            finally:
                # Emptied while still held: a later reader must not be told of a process that is gone.
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def holders(self) -> list[str]:
        """Who holds `lock` and `gallery_lock` now, each as `pid <number>: <command>`. Waits for nobody."""
        return [holder for name in (_LOCK, _GALLERY_LOCK) if (holder := self._holder(name)) is not None]

    def _holder(self, name: str) -> str | None:
        try:
            descriptor = os.open(self.root / name, os.O_RDONLY)
        except OSError:
            return None
        try:
            holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip()
            if not holder:  # emptied when it was given back
                return None
            try:
                # Who was killed has left a name behind. Then, and only then, this takes the lock, until the file is
                # closed: a command that begins at this very moment would find it taken.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return holder
            return None
        finally:
            os.close(descriptor)

    def write_status(self, stage: str, content: dict[str, Any]) -> None:
        """Replace `status/<stage>.json`; `schema: 1` is added."""
        path = self._status_file(stage)
        make_folder(path.parent)
        write_json(path, {"schema": 1, **content})

    def read_status(self, stage: str) -> dict[str, Any] | None:
        """What the stage last wrote, or None when it has not run (or what lies there is not a status)."""
        try:
            content = json.loads(self._status_file(stage).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def _status_file(self, stage: str) -> Path:
        if not _STAGE.fullmatch(stage):
            raise ValueError(f"stage name '{stage}': use lower-case letters, digits, '-' and '_'")
        return self.status / f"{stage}.json"
