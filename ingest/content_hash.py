"""Content hashes of recordings, so that a file is known again whatever it is called.

Hashing reads every byte, so hashes are kept per path, size and modification time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest.recording_file import RecordingPath, StoreError, file_stamp, identity, open_recording
from ingest.site import SiteConfig, SiteError, camera_videos
from ingest.video import StillWritten, VideoError
from ingest.workspace import Workspace
from models.atomic import write_json

FOUND_FOR_S = 5.0
"""How long what `RecordingFinder` found holds, seconds."""

_BLOCK = 4 << 20


class DamagedHashes(ValueError):  # noqa: N818 a state of the file
    """The cache is not what was written."""


def hashes_file(workspace: Workspace) -> Path:
    """Where the hashes are kept. A cache: deleting it costs reading the recordings again."""
    return workspace.root / "content_hashes.json"


def read_hashes(path: Path) -> dict[str, list[Any]]:
    """Size, modification time and hash of files, as they are kept.

    Raises:
        DamagedHashes: the file is not as it was written.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # Schema 1 had no checksum; its hashes are as good, and taking them again would read every recording.
        keys = {1: {"schema", "files"}, 2: {"schema", "files", "sha256"}}
        if set(content) != keys[content["schema"]] or content.get("sha256", "") not in ("", _digest(content["files"])):
            raise ValueError("its checksum does not match")
        return dict(content["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedHashes(f"{path}: damaged ({error!r}); delete it, recordings are read again then") from None


def _digest(files: dict[str, list[Any]]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


class ContentHashes:
    """The sha256 of files, remembered in the workspace.

    Args:
        workspace: keeps them.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._file = hashes_file(workspace)
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        with contextlib.suppress(OSError, DamagedHashes):
            self._known = read_hashes(self._file)

    def known(self, path: RecordingPath) -> str | None:
        """The hash of a file as it is now, if it was hashed in this state; None otherwise, or when it is gone."""
        entry = self._known.get(identity(path))
        try:
            stamp = file_stamp(path)
        except OSError:
            return None
        return str(entry[2]) if isinstance(entry, list) and len(entry) == 3 and tuple(entry[:2]) == stamp else None

    def sha256(self, path: RecordingPath, advance: Callable[[int], None] = lambda _: None) -> str:
        """The hash of a file, 64 hex digits.

        Args:
            path: of the file.
            advance: called with the number of bytes read since the last call.

        Raises:
            VideoError: it cannot be read, or changes while it is read.
            StoreError: the store does not answer.
        """
        found = self.known(path)
        if found is not None:
            return found
        digest = hashlib.sha256()
        try:
            before = file_stamp(path)
            with open_recording(path) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    advance(len(block))
            if file_stamp(path) != before:
                raise StillWritten(f"{path}: is being written to; run this again when the recording has ended")
        except StoreError:
            raise
        except OSError as error:
            raise VideoError(f"{path}: cannot be opened: {error.strerror}; check the path in site.yaml") from None
        self._known[identity(path)] = [*before, digest.hexdigest()]
        self._changed = True
        return digest.hexdigest()

    def save(self) -> None:
        """Write what was learned."""
        if self._changed:
            write_json(self._file, {"schema": 2, "files": self._known, "sha256": _digest(self._known)})
            self._changed = False


class RecordingFinder:
    """Where a site's recordings lie now, by camera and content. Safe to use from several threads.

    Nothing is hashed anew, so this is quick enough for answering a request; what was found of a camera holds for a few
    seconds, since a page of matches asks for the same few recordings again and again.

    Args:
        workspace: of the site.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._hashes: ContentHashes | None = None
        self._stamp: tuple[int, ...] | None = None
        self._held: dict[str, tuple[float, SiteConfig, dict[str, RecordingPath]]] = {}

    def find(self, site: SiteConfig, camera_id: str, video_sha256: str) -> RecordingPath | None:
        """Where a camera's recording of that content lies; None when it is gone or was changed, when the site has no
        such camera (any more), or its store does not answer."""
        with self._lock:
            until, of_site, found = self._held.get(camera_id, (0.0, site, {}))
            if time.monotonic() >= until or of_site is not site:
                found = self._of_camera(site, camera_id)
                self._held[camera_id] = (time.monotonic() + FOUND_FOR_S, site, found)
            return found.get(video_sha256)

    def _of_camera(self, site: SiteConfig, camera_id: str) -> dict[str, RecordingPath]:
        try:
            paths = [recording.path for recording in camera_videos(site.camera(camera_id))]
            hashes = self._known_hashes()
            return {sha256: path for path in reversed(paths) if (sha256 := hashes.known(path)) is not None}
        except (SiteError, OSError):
            return {}

    def _known_hashes(self) -> ContentHashes:
        stamp = None
        with contextlib.suppress(FileNotFoundError):
            stat = hashes_file(self._workspace).stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if self._hashes is None or stamp != self._stamp:
            self._hashes, self._stamp = ContentHashes(self._workspace), stamp
        return self._hashes
