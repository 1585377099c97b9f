"""What was erased on request and must never come back: `erasures.jsonl` in the workspace.

A line is `{"schema": 1, "video_sha256": ..., "start_pts_s": ..., "end_pts_s": ..., "box": [x1, y1, x2, y2] | null}`. A
detection inside the time span is dropped when the box covers at least half of it; a null box covers everything. A line
also has the `sha256` of all the rest of it (lines of earlier versions have none): a slip in a number would bring
somebody back. The last line may lack its end where whoever added it was killed: nobody was told that it is there then.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.atomic import fsync_folder, make_folder

_COVERED = 0.5
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ErasureError(ValueError):
    """An erasure that cannot be understood. Nothing is ingested then: guessing could bring a person back."""


@dataclass(frozen=True)
class Erasure:
    """One erased piece of a recording.

    Attributes:
        video_sha256: content hash of the recording.
        start_pts_s, end_pts_s: time span in seconds from the beginning of the recording, both ends included.
        box: x1, y1, x2, y2 in pixels, or None for the whole frame.
    """

    video_sha256: str
    start_pts_s: float
    end_pts_s: float
    box: tuple[float, float, float, float] | None

    def during(self, start_s: float, end_s: float) -> bool:
        """Whether it has a moment in common with a time span, ends included."""
        return self.start_pts_s <= end_s and self.end_pts_s >= start_s

    def to_json(self) -> dict[str, Any]:
        """The line's content."""
        return {
            "schema": 1,
            "video_sha256": self.video_sha256,
            # 9 and 9.0 are equal, but not to a checksum.
            "start_pts_s": float(self.start_pts_s),
            "end_pts_s": float(self.end_pts_s),
            "box": None if self.box is None else [float(side) for side in self.box],
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Erasure:
        """What `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError, IndexError: it is not one.
        """
        if entry["schema"] != 1:
            raise ValueError(f"schema {entry['schema']} is not known")
        box = entry["box"]
        erasure = cls(
            str(entry["video_sha256"]),
            float(entry["start_pts_s"]),
            float(entry["end_pts_s"]),
            None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        )
        _check(erasure)
        return erasure


def load_erasures(path: Path) -> list[Erasure]:
    """All erasures of a workspace; none when there is no file. A last line that was never written to its end is none.

    Raises:
        ErasureError: a line is not an erasure.
    """
    if not path.exists():
        return []
    erasures = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        if _is_torn(lines[-1]):
            lines.pop()
    except (OSError, UnicodeDecodeError) as error:
        raise ErasureError(f"{path}: cannot be read ({error}); restore the file") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            erasure = Erasure.from_json(entry)
            written = erasure.to_json()
            if entry not in (written, _with_checksum(written)):
                raise ValueError("it was changed since it was written")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ErasureError(f"{path}, line {number}: not an erasure ({error!r}); restore the file") from None
        erasures.append(erasure)
    return erasures


def add_erasures(path: Path, erasures: Sequence[Erasure]) -> None:
    """Append erasures and make sure that they are on the disk: all of them, or none where that fails.

    Raises:
        ErasureError: one could never match anything.
        OSError: they cannot be written, because the disk is full for instance.
    """
    if not erasures:
        return
    for erasure in erasures:
        try:
            _check(erasure)
        except ValueError as error:
            raise ErasureError(f"{erasure}: not an erasure ({error})") from None
    make_folder(path.parent)
    lines = "".join(json.dumps(_with_checksum(erasure.to_json())) + "\n" for erasure in erasures).encode()
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # an ingest and somebody who erases may add at once
        _end_last_line(file)
        length = file.seek(0, os.SEEK_END)
        try:
            _write(file, lines)
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(length)
            raise
        if length == 0:
            fsync_folder(path.parent)


def _end_last_line(file: FileIO) -> None:
    """Make good what was left behind by whoever was killed while they added a line: else the next is glued to it."""
    file.seek(0)
    content = file.readall()
    last = content[content.rfind(b"\n") + 1 :]
    if _is_torn(last):
        file.truncate(len(content) - len(last))
    elif last:
        _write(file, b"\n")


def _is_torn(last: str | bytes) -> bool:
    """Whether what stands after the last end of a line is a part of one: no part of an object is JSON."""
    try:
        json.loads(last)
    except ValueError:
        return bool(last)
    return False


def _write(file: FileIO, content: bytes) -> None:
    """The whole of it: a disk that becomes full takes a part first."""
    while content:
        content = content[file.write(content) :]


def _with_checksum(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "sha256": hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()}


def _check(erasure: Erasure) -> None:
    """Refuse what could never match anything: a slip there would bring a person back."""
    if not _SHA256.fullmatch(erasure.video_sha256):
        raise ValueError("video_sha256 is not 64 lower-case hexadecimal digits")
    if not erasure.start_pts_s <= erasure.end_pts_s:
        raise ValueError("start_pts_s is not before end_pts_s")
    if erasure.box is not None:
        x1, y1, x2, y2 = erasure.box
        if not (x1 < x2 and y1 < y2):
            raise ValueError("box is not x1, y1, x2, y2 with x1 < x2 and y1 < y2")


class ErasedRegions:
    """The erasures of one recording, ready to be asked about many times. They may be thousands.

    Args:
        erasures: of the recording.
    """

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        own = list(erasures)
        self._start = np.array([erasure.start_pts_s for erasure in own], np.float64)
        self._end = np.array([erasure.end_pts_s for erasure in own], np.float64)
        everywhere = (-np.inf, -np.inf, np.inf, np.inf)
        self._boxes = np.array([erasure.box or everywhere for erasure in own], np.float64).reshape(-1, 4)

    def boxes_at(self, pts_s: float) -> NDArray[np.float64]:
        """What is erased at a time, float64 (n, 4): x1, y1, x2, y2 in pixels, infinite for the whole frame."""
        found: NDArray[np.float64] = self._boxes[(self._start <= pts_s) & (pts_s <= self._end)]
        return found

    def cover(self, pts_s: float, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which boxes (n, 4) at time `pts_s` must not be kept, bool (n,): half of them lies in one erased region."""
        regions = self.boxes_at(pts_s)[:, None]
        if not len(regions):
            return np.zeros(len(boxes), np.bool_)
        width = np.clip(np.minimum(boxes[:, 2], regions[..., 2]) - np.maximum(boxes[:, 0], regions[..., 0]), 0, None)
        height = np.clip(np.minimum(boxes[:, 3], regions[..., 3]) - np.maximum(boxes[:, 1], regions[..., 1]), 0, None)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        covered: NDArray[np.bool_] = (width * height >= _COVERED * area).any(axis=0)
        return covered

    def frame_between(self, start_s: float, end_s: float) -> bool:
        """Whether the whole frame is erased at some time of a span, ends included."""
        whole = np.isinf(self._boxes[:, 0])
        return bool((whole & (self._start <= end_s) & (self._end >= start_s)).any())
