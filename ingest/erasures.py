"""What was erased on request and must never come back: `erasures.jsonl` in the workspace.

A line is `{"schema": 1, "video_sha256": ..., "start_pts_s": ..., "end_pts_s": ..., "box": [x1, y1, x2, y2] | null}`. A
detection inside the time span is dropped when the box covers at least half of it; a null box covers everything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    def to_json(self) -> dict[str, Any]:
        """The line's content."""
        return {
            "schema": 1,
            "video_sha256": self.video_sha256,
            "start_pts_s": self.start_pts_s,
            "end_pts_s": self.end_pts_s,
            "box": None if self.box is None else list(self.box),
        }


def load_erasures(path: Path) -> list[Erasure]:
    """All erasures of a workspace; none when there is no file.

    Raises:
        ErasureError: a line is not an erasure.
    """
    if not path.exists():
        return []
    erasures = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ErasureError(f"{path}: cannot be read ({error}); restore the file") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if entry["schema"] != 1:
                raise ValueError(f"schema {entry['schema']} is not known")
            box = entry["box"]
            erasure = Erasure(
                str(entry["video_sha256"]),
                float(entry["start_pts_s"]),
                float(entry["end_pts_s"]),
                None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            )
            _check(erasure)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ErasureError(f"{path}, line {number}: not an erasure ({error!r}); restore the file") from None
        erasures.append(erasure)
    return erasures


def add_erasures(path: Path, erasures: Sequence[Erasure]) -> None:
    """Append erasures and make sure that they are on the disk. What a crash leaves half written is told by
    `load_erasures`, never passed over.

    Raises:
        ErasureError: one could never match anything.
    """
    if not erasures:
        return
    for erasure in erasures:
        try:
            _check(erasure)
        except ValueError as error:
            raise ErasureError(f"{erasure}: not an erasure ({error})") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(erasure.to_json()) + "\n" for erasure in erasures))
        file.flush()
        os.fsync(file.fileno())


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


def erased(erasures: Iterable[Erasure], pts_s: float, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes (n, 4) at time `pts_s` must not be kept, bool (n,). The erasures are those of the recording."""
    gone = np.zeros(len(boxes), np.bool_)
    for erasure in erasures:
        if not erasure.start_pts_s <= pts_s <= erasure.end_pts_s:
            continue
        if erasure.box is None:
            return np.ones(len(boxes), np.bool_)
        x1, y1, x2, y2 = erasure.box
        width = np.clip(np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1), 0, None)
        height = np.clip(np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1), 0, None)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        gone |= width * height >= _COVERED * area
    return gone
