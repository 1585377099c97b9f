"""Statues, posters and mannequins: what a detector takes for people, and what never moves.

A tracklet is suspected when its box stayed in one place from its first to its last sighting. Suspects in the same place
are one thing, however often it was lost and found. It is no person if it was there for `LONG_S` in all and its pictures
are alike as only pictures of the same thing are: people who stand still breathe, turn and shift their weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.box_overlap import iou
from ingest.tracklets import Tracklet
from models.images import decode_image

LONG_S = 30.0
"""Less than this is not enough to tell."""
_STILL = 0.08  # heights by which the middle of the box may wander, or its size change
_SAME_PLACE = 0.6  # intersection over union
_ALIKE = 0.95  # correlation of a picture with the median one
_MOSTLY = 0.8  # share of pictures that must be alike: others pass in front
_THUMB = (16, 32)
_MOST_HELD = 500  # tracklets; beyond that the oldest are let go, so that memory stays bounded


def never_moved(tracklet: Tracklet) -> bool:
    """Whether the box stayed in one place all the time."""
    boxes = np.stack([sighting.box for sighting in tracklet.path]).astype(np.float64)
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = boxes[:, 2:] - boxes[:, :2]
    spread = max(float(np.ptp(middle, axis=0).max()), float(np.ptp(size, axis=0).max()))
    return spread <= _STILL * height


@dataclass
class _Place:
    box: NDArray[np.float32]
    tracklets: list[Tracklet] = field(default_factory=list)

    def is_no_person(self) -> bool:
        there = sum(tracklet.last.pts_s - tracklet.first.pts_s for tracklet in self.tracklets)
        thumbs = [_thumb(crop.jpeg) for tracklet in self.tracklets for crop in tracklet.crops]
        if there < LONG_S or len(thumbs) < 3:
            return False
        stacked = np.stack(thumbs)
        typical = _normalised(np.median(stacked, axis=0))
        return float(np.mean(stacked @ typical / typical.size >= _ALIKE)) >= _MOSTLY


class Suspects:
    """The suspected tracklets of one recording, held back until it can be told what they are."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def hold(self, tracklet: Tracklet) -> list[Tracklet]:
        """Hold a tracklet that never moved. Returns those that are let go to make room, people as far as we know."""
        for place in self._places:
            if float(iou(place.box[None], tracklet.first.box[None])[0, 0]) >= _SAME_PLACE:
                place.tracklets.append(tracklet)
                break
        else:
            self._places.append(_Place(tracklet.first.box, [tracklet]))
        released: list[Tracklet] = []
        while sum(len(place.tracklets) for place in self._places) > _MOST_HELD:
            oldest = self._places.pop(0)
            released += [] if oldest.is_no_person() else oldest.tracklets
        return released

    def judge(self) -> tuple[list[Tracklet], int]:
        """All that are people after all, by number, and how many tracklets are none."""
        people = [tracklet for place in self._places if not place.is_no_person() for tracklet in place.tracklets]
        held = sum(len(place.tracklets) for place in self._places)
        self._places = []
        return sorted(people, key=lambda tracklet: tracklet.number), held - len(people)


def _thumb(jpeg: bytes) -> NDArray[np.float64]:
    grey = cv2.cvtColor(decode_image(jpeg, what="a crop"), cv2.COLOR_BGR2GRAY)
    return _normalised(cv2.resize(grey, _THUMB, interpolation=cv2.INTER_AREA).astype(np.float64).ravel())


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without brightness and contrast, which the light changes."""
    centred: NDArray[np.float64] = values - values.mean()
    return centred / max(float(centred.std()), 1e-6)
