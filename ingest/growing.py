"""Recordings that are still being written, and those that have grown since they were ingested.

A recorder's file changes until it is closed. What changes while we look is left for the next run. What was taken too
early (the recorder paused, the network stalled) is found again when the file has become longer: its shard is replaced
by that of the longer file, so that nobody is there twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from ingest.recording_file import RecordingPath, file_stamp, open_recording
from ingest.shards import Shard

YOUNG_S = 10.0
"""A file written to within this time may still be growing."""
QUIET_S = 2.0
"""So long a young file is watched."""
_BLOCK = 4 << 20


def still_written(paths: Iterable[RecordingPath]) -> set[RecordingPath]:
    """Those of the files that somebody is writing to now. Takes `QUIET_S` if any of them is young, no time otherwise;
    files that are not there are not among them."""
    now = time.time()
    young: dict[RecordingPath, tuple[int, int]] = {}
    for path in paths:
        try:
            stamp = file_stamp(path)
        except OSError:
            continue
        # A file server's clock may be ahead.
        if abs(now - stamp[1] / 1e9) < YOUNG_S:
            young[path] = stamp
    if not young:
        return set()
    time.sleep(QUIET_S)
    changed = set()
    for path, stamp in young.items():
        try:
            if file_stamp(path) != stamp:
                changed.add(path)
        except OSError:
            changed.add(path)
    return changed


def grown_from(path: RecordingPath, start: datetime | None, shards: Sequence[Shard]) -> list[Shard]:
    """The shards of earlier, shorter states of a recording.

    Args:
        path: of the recording.
        start: when it began, where its container or its name says so; a camera does not begin two recordings at once.
        shards: of the same camera, whose recordings are no longer there.

    Returns:
        Those of a file of the same name that began at the same moment, or whose whole content this file begins with.
    """
    named = [shard for shard in shards if shard.summary.get("video_name") == path.name]
    same_start = [shard for shard in named if start is not None and shard.summary.get("start") == start.isoformat()]
    return same_start + [shard for shard in named if shard not in same_start and _begins_with(path, shard)]


def _begins_with(path: RecordingPath, shard: Shard) -> bool:
    length = int(shard.summary.get("video_bytes") or 0)
    digest = hashlib.sha256()
    try:
        if not 0 < length <= file_stamp(path)[0]:
            return False
        with open_recording(path) as file:
            while length and (block := file.read(min(_BLOCK, length))):
                digest.update(block)
                length -= len(block)
    except OSError:
        return False
    return length == 0 and digest.hexdigest() == shard.video_sha256
