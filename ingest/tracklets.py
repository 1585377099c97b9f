"""From linked detections to tracklets: a few good crops spread over each one's whole length, and its path.

A tracklet's length is not known while it is being seen, and recordings last for hours, so what is kept of an open
tracklet is bounded: one best crop per time bin in at most `BINS` bins, whose width doubles when they are full, and a
path that is thinned the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

BINS = 32
ENOUGH_CROPS = 4
POOR = 1 / 3
PATH_INTERVAL_S = 0.5
PATH_POINTS = 200


@dataclass(frozen=True)
class Sighting:
    """One detection of a tracklet.

    Attributes:
        frame_index: decoded frame it was seen in.
        pts_s: seconds from the beginning of the recording.
        box: (4,) float32, x1, y1, x2, y2 in pixels, inside the frame.
        score: the detector's.
    """

    frame_index: int
    pts_s: float
    box: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Crop:
    """A sighting that is kept as a picture: JPEG bytes and `ingest.crop_quality`."""

    sighting: Sighting
    quality: float
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True)
class Tracklet:
    """A finished tracklet.

    Attributes:
        number: within the recording, from 1 in the order of first sightings.
        first, last: its first and last sighting.
        detections: how many sightings it has.
        sure: in how many of them the detector was sure.
        clear: it is made of clear sightings alone (`ingest.tracklet_linking`).
        path: sightings sampled over its length, first and last included.
        crops: the best ones, in order of time.
    """

    number: int
    first: Sighting
    last: Sighting
    detections: int
    sure: int
    clear: bool
    path: list[Sighting]
    crops: list[Crop]


class BestPerBin:
    """The best crop of each time bin, for a stretch of time whose length is not known beforehand.

    Args:
        start_s: where the first bin begins.
        width_s: width of a bin to begin with; it doubles whenever `BINS` bins do not reach far enough.
    """

    def __init__(self, start_s: float, width_s: float) -> None:
        self._start_s = start_s
        self._width_s = width_s
        self._best: dict[int, Crop] = {}

    def offer(self, sighting: Sighting, quality: float, encode: Callable[[], bytes]) -> None:
        """Keep the crop if it beats its bin's; it is encoded only then. Of equals the earlier stays."""
        index = self._bin(sighting)
        while index >= BINS:
            self._widen()
            index = self._bin(sighting)
        holder = self._best.get(index)
        if holder is None or quality > holder.quality:
            self._best[index] = Crop(sighting, quality, encode())

    def kept(self) -> list[Crop]:
        """What is kept now, in order of time."""
        return [self._best[index] for index in sorted(self._best)]

    def spread(self, count: int) -> list[Crop]:
        """At most `count` crops in order of time: the best of each of `count` equal parts of the whole length, then, in
        place of empty parts, the best of what is left.

        While more than `ENOUGH_CROPS` remain, those that are poor against the best one (less than a third of its
        quality) go: they mostly show somebody else.
        """
        return _without_poor(self._spread(count))

    def _spread(self, count: int) -> list[Crop]:
        kept = self.kept()
        if len(kept) <= count:
            return kept
        first, last = kept[0].sighting.pts_s, kept[-1].sighting.pts_s
        parts: dict[int, Crop] = {}
        for crop in kept:
            part = min(count - 1, int((crop.sighting.pts_s - first) / (last - first) * count))
            if part not in parts or crop.quality > parts[part].quality:
                parts[part] = crop
        chosen = list(parts.values())
        left = sorted((crop for crop in kept if crop not in chosen), key=lambda crop: -crop.quality)
        chosen += left[: count - len(chosen)]
        return sorted(chosen, key=lambda crop: crop.sighting.pts_s)

    def __len__(self) -> int:
        return len(self._best)

    def _bin(self, sighting: Sighting) -> int:
        return max(0, int((sighting.pts_s - self._start_s) / self._width_s + 1e-6))

    def _widen(self) -> None:
        self._width_s *= 2
        old, self._best = self._best, {}
        for index in sorted(old):
            crop = old[index]
            holder = self._best.get(index // 2)
            if holder is None or crop.quality > holder.quality:
                self._best[index // 2] = crop


def _without_poor(crops: list[Crop]) -> list[Crop]:
    best = max((crop.quality for crop in crops), default=0.0)
    for crop in sorted(crops, key=lambda crop: crop.quality):
        if len(crops) <= ENOUGH_CROPS or crop.quality >= POOR * best:
            break
        crops = [other for other in crops if other is not crop]
    return crops


class _Sightings:
    """Sightings of one person, as far as they are kept."""

    def __init__(self, interval_s: float) -> None:
        self.detections = 0
        self.sure = 0
        self.first: Sighting | None = None
        self.last: Sighting | None = None
        self.crops: BestPerBin | None = None
        self.path: list[Sighting] = []
        self._interval_s = interval_s
        self._path_interval_s = PATH_INTERVAL_S

    def add(self, sighting: Sighting) -> None:
        self.first = self.first or sighting
        self.last = sighting
        self.detections += 1
        if not self.path or sighting.pts_s >= self.path[-1].pts_s + self._path_interval_s - 1e-6:
            self.path.append(sighting)
            if len(self.path) >= PATH_POINTS:
                self.path = self.path[::2]
                self._path_interval_s *= 2

    def offer_crop(self, sighting: Sighting, quality: float, encode: Callable[[], bytes]) -> None:
        if self.crops is None:
            self.crops = BestPerBin(sighting.pts_s, self._interval_s)
        self.crops.offer(sighting, quality, encode)

    def with_others(self, others: _Sightings) -> _Sightings:
        """These and those together."""
        both = _Sightings(self._interval_s)
        both.detections, both.sure = self.detections + others.detections, self.sure + others.sure
        ends = [end for end in (self.first, self.last, others.first, others.last) if end is not None]
        both.first = min(ends, key=lambda end: end.pts_s, default=None)
        both.last = max(ends, key=lambda end: end.pts_s, default=None)
        both.path = sorted(self.path + others.path, key=lambda sighting: sighting.pts_s)
        crops = [crop for side in (self, others) if side.crops is not None for crop in side.crops.kept()]
        for crop in sorted(crops, key=lambda crop: crop.sighting.pts_s):
            both.offer_crop(crop.sighting, crop.quality, partial(getattr, crop, "jpeg"))
        return both


class OpenTracklet:
    """A tracklet that is still being seen.

    Args:
        number: within the recording.
        interval_s: time between looked-at frames.
        enough: with so many sure and clear sightings, the unclear ones do not count.
    """

    def __init__(self, number: int, interval_s: float, enough: int) -> None:
        self.number = number
        self._enough = enough
        self._clear = _Sightings(interval_s)
        self._unclear = _Sightings(interval_s)
        self._last_seen_s: float | None = None

    @property
    def last_seen_s(self) -> float:
        """Time of the latest sighting."""
        if self._last_seen_s is None:
            raise ValueError("the tracklet has no sighting yet")
        return self._last_seen_s

    def add(self, sighting: Sighting, *, sure: bool = True, clear: bool = True) -> None:
        """Add the next sighting, in order of time."""
        self._last_seen_s = sighting.pts_s
        kept = self._kept(clear)
        if kept is not None:
            kept.add(sighting)
            kept.sure += sure

    def offer_crop(
        self, sighting: Sighting, quality: float, encode: Callable[[], bytes], *, clear: bool = True
    ) -> None:
        """Offer a picture of a sighting; whether it is kept shows at the end."""
        kept = self._kept(clear)
        if kept is not None:
            kept.offer_crop(sighting, quality, encode)

    def finish(self, max_crops: int) -> Tracklet:
        """The tracklet with its best crops."""
        clear = self._clear.sure >= self._enough
        kept = self._clear if clear else self._clear.with_others(self._unclear)
        if kept.first is None or kept.last is None:
            raise ValueError("a tracklet needs a sighting")
        path = kept.path if kept.path[-1] is kept.last else [*kept.path, kept.last]
        crops = [] if kept.crops is None else kept.crops.spread(max_crops)
        return Tracklet(self.number, kept.first, kept.last, kept.detections, kept.sure, clear, path, crops)

    def _kept(self, clear: bool) -> _Sightings | None:
        if clear:
            return self._clear
        return None if self._clear.sure >= self._enough else self._unclear
