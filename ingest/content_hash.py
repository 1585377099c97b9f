"""Content hashes of recordings, so that a file is known again whatever it is called.

Hashing reads every byte, so hashes are kept per path, size and modification time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from ingest.recording_file import RecordingPath, StoreError, file_stamp, identity, open_recording
from ingest.site import SiteConfig, camera_videos
from ingest.video import StillWritten, VideoError
from ingest.workspace import Workspace
from models.atomic import write_json

_BLOCK = 4 << 20


class ContentHashes:
    """The sha256 of files, remembered in the workspace.

    Args:
        workspace: keeps `content_hashes.json`, a cache: deleting it costs reading the recordings again.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._file = workspace.root / "content_hashes.json"
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            if content["schema"] == 1:
                self._known = dict(content["files"])
        except (OSError, ValueError, KeyError, TypeError):
            self._known = {}

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
            write_json(self._file, {"schema": 1, "files": self._known})
            self._changed = False


def find_recording(site: SiteConfig, workspace: Workspace, camera_id: str, video_sha256: str) -> RecordingPath | None:
    """Where a camera's recording of that content lies now, by the hashes known; None when it is gone or was changed.

    Nothing is hashed anew, so this is quick enough for answering a request.
    """
    hashes = ContentHashes(workspace)
    for recording in camera_videos(site.camera(camera_id)):
        if hashes.known(recording.path) == video_sha256:
            return recording.path
    return None
