"""Judging detections and tracklets where somebody drew the true boxes.

A detection is right at an intersection over union of at least 0.5 with a true box, matched one to one (Hungarian, most
matches first, then most overlap), in every frame that was looked at. People less than half visible or under 40 pixels
tall are neither hits nor misses, and neither are detections that match them. A tracklet is who most of its boxes are;
one whose boxes mostly match no one is nobody (-1).

Of tracking it is counted what a search feels: how many of the true boxes lie in a tracklet of their person, how often a
tracklet goes over from one person to another (identity switches), and into how many tracklets too many a visit is
broken (fragments). A visit is a person's time in the picture, hidden or not, from entering to leaving it.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ingest.box_overlap import iou

if TYPE_CHECKING:
    from ingest.tracklet_linking import Linked

COLUMNS = ("frame", "person_id", "x1", "y1", "x2", "y2", "visibility")
NOBODY = -1
_MIN_IOU = 0.5
_MIN_VISIBILITY = 0.5
_MIN_HEIGHT_PX = 40.0


class GroundTruthError(ValueError):
    """A ground truth file that cannot be used; the message names file and line."""


@dataclass(frozen=True)
class TrueBoxes:
    """The people of one frame.

    Attributes:
        person: int64 (n,).
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels.
        counted: bool (n,), visible and tall enough to be a hit or a miss.
    """

    person: NDArray[np.int64]
    boxes: NDArray[np.float32]
    counted: NDArray[np.bool_]


_NO_ONE = TrueBoxes(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.bool_))


def load_ground_truth(path: Path) -> dict[int, TrueBoxes]:
    """Read a ground truth CSV (columns `COLUMNS`, one row per person and frame) into boxes per frame index.

    Raises:
        GroundTruthError: missing, other columns, or a row that is no box.
    """
    rows: dict[int, list[tuple[int, list[float], float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = tuple(name.strip() for name in reader.fieldnames or ())
            if set(names) != set(COLUMNS):
                raise GroundTruthError(f"{path}: its columns are {', '.join(names)}; they must be {', '.join(COLUMNS)}")
            reader.fieldnames = list(names)
            for row in reader:
                try:
                    box = [float(row[name]) for name in ("x1", "y1", "x2", "y2")]
                    visibility = float(row["visibility"])
                    frame, person = int(row["frame"]), int(row["person_id"])
                except (TypeError, ValueError):
                    raise GroundTruthError(f"{path}, line {reader.line_num}: a value is not a number") from None
                if not all(map(math.isfinite, [*box, visibility])) or box[2] <= box[0] or box[3] <= box[1]:
                    raise GroundTruthError(
                        f"{path}, line {reader.line_num}: not a box (x2 > x1 and y2 > y1 are needed)"
                    )
                if person < 0 or frame < 0:
                    raise GroundTruthError(f"{path}, line {reader.line_num}: frame and person_id begin at 0")
                rows.setdefault(frame, []).append((person, box, visibility))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GroundTruthError(f"{path}: cannot be read: {error}") from None
    truth = {}
    for frame, entries in rows.items():
        boxes = np.asarray([box for _, box, _ in entries], np.float32)
        visibility_of = np.asarray([visibility for _, _, visibility in entries])
        truth[frame] = TrueBoxes(
            np.asarray([person for person, _, _ in entries], np.int64),
            boxes,
            (visibility_of >= _MIN_VISIBILITY) & (boxes[:, 3] - boxes[:, 1] >= _MIN_HEIGHT_PX),
        )
    return truth


def match_boxes(found: NDArray[np.float32], true: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each found box (n, 4) the index of its true box out of (m, 4), -1 for none: int64 (n,)."""
    from scipy.optimize import linear_sum_assignment

    matched = np.full(len(found), -1, np.int64)
    if len(found) == 0 or len(true) == 0:
        return matched
    overlap = iou(found, true)
    # One more match outweighs any gain in overlap.
    worth = np.where(overlap >= _MIN_IOU, overlap + min(overlap.shape), 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    good = overlap[rows, columns] >= _MIN_IOU
    matched[rows[good]] = columns[good]
    return matched


@dataclass(frozen=True)
class _Sighting:
    """A box of a tracklet: whether it is clear, whom it shows in which of their visits, and whether that counts."""

    clear: bool
    person: int
    visit: int
    counted: bool


@dataclass(frozen=True)
class _Visit:
    """A person's latest visit: its number, and the look (not the frame) at which they were last there."""

    number: int
    look: int


@dataclass
class Judge:
    """Compares what ingest finds in one recording with its ground truth.

    Args:
        truth: of `load_ground_truth`.
        sha256: of the file, for the summary.
    """

    truth: dict[int, TrueBoxes]
    sha256: str
    hits: int = 0
    wrong: int = 0
    missed: int = 0
    covered: int = 0
    switches: int = 0
    _sightings: dict[int, list[_Sighting]] = field(default_factory=dict)
    _visits: dict[int, _Visit] = field(default_factory=dict)
    _tracklets_of_visit: Counter[tuple[int, int]] = field(default_factory=Counter)
    _looks: int = 0

    def detections(self, frame_index: int, boxes: NDArray[np.float32]) -> None:
        """Count the detections (n, 4) of a looked-at frame. Every such frame has to be told, in order."""
        true = self.truth.get(frame_index, _NO_ONE)
        self._looks += 1
        for person in true.person.tolist():
            last = self._visits.get(person)
            stayed = last is not None and last.look == self._looks - 1
            number = 0 if last is None else last.number + (not stayed)
            self._visits[person] = _Visit(number, self._looks)
        counted = match_boxes(boxes, true.boxes[true.counted])
        hits = int(np.sum(counted >= 0))
        excused = match_boxes(boxes[counted < 0], true.boxes[~true.counted])
        self.hits += hits
        self.missed += int(np.sum(true.counted)) - hits
        self.wrong += int(np.sum(excused < 0))

    def tracked(self, frame_index: int, linked: Sequence[Linked], boxes: NDArray[np.float32]) -> None:
        """Remember who the detections are that were linked to tracklets in this frame. boxes (n, 4): all detections."""
        true = self.truth.get(frame_index, _NO_ONE)
        mine = boxes[[link.detection for link in linked]].reshape(-1, 4)
        for link, match in zip(linked, match_boxes(mine, true.boxes).tolist(), strict=True):
            if match < 0:
                seen = _Sighting(link.clear, NOBODY, 0, False)
            else:
                person = int(true.person[match])
                seen = _Sighting(link.clear, person, self._visits[person].number, bool(true.counted[match]))
            self._sightings.setdefault(link.tracklet, []).append(seen)

    def keep(self, tracklet: int, *, clear: bool) -> dict[str, Any]:
        """Count a tracklet as kept. Gives who it is: person_id (-1 nobody), purity (share of its boxes that are this
        person), boxes; by its clear sightings alone, or by all."""
        sightings = self._sightings.get(tracklet, [])
        votes = Counter(seen.person for seen in sightings if seen.clear or not clear)
        boxes = sum(votes.values())
        if boxes == 0:
            return {"person_id": NOBODY, "purity": 0.0, "boxes": 0}
        # Of equal votes a person goes before nobody, and the lower number first.
        person, count = min(votes.items(), key=lambda vote: (-vote[1], vote[0] == NOBODY, vote[0]))
        self._count_tracking(person, sightings)
        return {"person_id": person, "purity": count / boxes, "boxes": boxes}

    def _count_tracking(self, person: int, sightings: list[_Sighting]) -> None:
        people = [seen.person for seen in sightings if seen.person != NOBODY]
        self.switches += sum(one != next_ for one, next_ in pairwise(people))
        if person == NOBODY:
            return
        own = [seen for seen in sightings if seen.person == person]
        self.covered += sum(seen.counted for seen in own)
        self._tracklets_of_visit.update({(person, seen.visit) for seen in own})

    def forget(self, tracklet: int) -> None:
        """Drop a tracklet that was judged, or is not kept."""
        self._sightings.pop(tracklet, None)

    def summary(self, tracklets: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """What summary.json says; `tracklets` maps tracklet ids to what `keep` said."""
        return {
            "sha256": self.sha256,
            "detection": {"tp": self.hits, "fp": self.wrong, "fn": self.missed},
            "tracking": {
                "covered": self.covered,
                "switches": self.switches,
                "fragments": self._tracklets_of_visit.total() - len(self._tracklets_of_visit),
            },
            "tracklets": tracklets,
        }
