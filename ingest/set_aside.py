"""Recordings on which ingest failed again and again: set aside, with the error, until somebody says to try once more.

A recording that kills its worker would otherwise cost every run as much as it cost the first one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ingest.workspace import Workspace
from models.atomic import make_folder, write_json

TRIES = 3


@dataclass(frozen=True)
class Failure:
    """A recording that failed.

    Attributes:
        camera: it belongs to.
        path: of the file, when it failed last.
        error: of the last try.
        tries: so far.
    """

    camera: str
    path: str
    error: str
    tries: int


class SetAside:
    """What failed at a site, kept in `set_aside.json`, by shard: other settings are another chance.

    Args:
        workspace: of the site. A file that cannot be read counts as empty: the worst that follows is another try.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._file: Path = workspace.root / "set_aside.json"
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            self._failures = {str(key): Failure(**entry) for key, entry in content["failures"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._failures = {}

    def failure(self, camera: str, shard_id: str) -> Failure | None:
        """What is known of a recording, None when it never failed."""
        return self._failures.get(f"{camera}/{shard_id}")

    def of(self, camera: str) -> list[Failure]:
        """What failed at a camera."""
        return [failure for failure in self._failures.values() if failure.camera == camera]

    def failed(self, shard_id: str, failure: Failure) -> None:
        """Note another failure; `failure.tries` are added to those before."""
        key = f"{failure.camera}/{shard_id}"
        before = self._failures.get(key)
        tries = failure.tries + (before.tries if before is not None else 0)
        self._failures[key] = Failure(failure.camera, failure.path, failure.error, tries)
        self._save()

    def forget(self, camera: str | None = None, shard_id: str | None = None) -> list[Failure]:
        """Give another chance to everything, to one camera, or to one recording (which is in now). Returns them."""
        chosen = [
            key
            for key, failure in self._failures.items()
            if camera in (None, failure.camera) and shard_id in (None, key.partition("/")[2])
        ]
        again = [self._failures.pop(key) for key in chosen]
        if again:
            self._save()
        return again

    def _save(self) -> None:
        make_folder(self._file.parent)
        failures = {key: asdict(failure) for key, failure in sorted(self._failures.items())}
        write_json(self._file, {"schema": 1, "failures": failures})
