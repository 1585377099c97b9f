"""Finding people without any weights, where the camera is fixed and people move.

A pixel is looked at when it differs from the learned background (`ingest.background`). Differing pixels form blobs; a
blob of a person's size and shape is a person. How tall a person is where they stand is learned from those who walk
alone (`ingest.stature`) in a first pass over the recording's beginning, and then tells a group from a person and a
fragment from both. A group is explained by people
placed one after the other, each where most of what is still unexplained lies: first those who were followed up to
here, then heads and feet that stick out of the group's outline.

Limits, by design: everything that moves and has a person's size is a person; who never moves is not found; a dense
crowd is found in part only. Cameras that pan, or light that flickers, need a trained detector.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.background import Background
from ingest.detection import Detections
from ingest.stature import Stature

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]

METHOD = "motion-3"  # part of the fingerprint: raise it whenever the same frames give other detections
_LONG_SIDE = 480  # the picture is looked at no larger than this
_PREVIEW = 600  # frames of the first pass: a minute at 10 per second
_FIRST_FRAMES = 2  # no background is known before
_SMALLEST = 16  # height of a blob in pixels of the small picture
_USUAL_WIDTH = 0.38  # of the height
_WIDEST = 0.68
_NEW_GAIN = 0.4  # unexplained share of the body from which somebody new is placed into a group
_SNAP = 1.15
_TALLEST = 1.15  # of the expected height
_CHAOS = 0.55  # share of differing pixels at which the picture is another one
_FORGET_AFTER = 20  # frames a person out of sight is remembered
_STILL_AFTER = 100  # frames after which what never moved becomes background
_STAND_AT_MOST = 600  # frames after which even a person who came walking does


@dataclass
class _Followed:
    """Somebody seen in the last frames. Positions in pixels of the small picture."""

    x: float
    foot: float
    width: float
    height: float
    born: tuple[float, float]
    speed_x: float = 0.0
    speed_foot: float = 0.0
    age: int = 0
    unseen: int = 0
    moved: bool = False
    still: int = 0
    matched: bool = False

    def predicted(self, stature: Stature) -> _Place:
        """Where they should be in this frame."""
        steps = 1 + self.unseen
        damping = 0.85**self.unseen
        x, foot = self.x + self.speed_x * damping * min(steps, 6), self.foot + self.speed_foot * damping * min(steps, 6)
        width, height = self.width, self.height
        if stature.known:
            grown = float(np.clip(stature.height(foot) / stature.height(self.foot), 0.8, 1.25))
            usual = stature.height(foot)
            height = float(np.clip(grown * height, 0.82 * usual, 1.18 * usual))
            width = float(np.clip(grown * width, 0.22 * height, 0.6 * height))
        return _Place(x, foot, width, height)


@dataclass(frozen=True)
class _Place:
    """A standing person's box: middle column, row of the feet, width and height."""

    x: float
    foot: float
    width: float
    height: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x - self.width / 2, self.foot - self.height, self.x + self.width / 2, self.foot


@dataclass
class _Blob:
    """A connected group of differing pixels, or several that belong together: box and labels."""

    left: int
    top: int
    right: int
    bottom: int
    area: int
    labels: list[int]
    inside: list[_Followed] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def joined(self, other: _Blob) -> _Blob:
        return _Blob(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.area + other.area,
            self.labels + other.labels,
        )


@dataclass(frozen=True)
class _Found:
    """A person found in this frame: box in the small picture, how well supported (0..1), whom it continues, and whether
    they stand alone and whole, so that their size may be learned."""

    box: tuple[float, float, float, float]
    support: float
    continues: _Followed | None
    alone: bool


class MotionDetector:
    """Implements `ingest.detection.Detector` for fixed cameras; about 10 frames per second are meant."""

    name = "motion"

    def __init__(self) -> None:
        self._start_again()

    def fingerprint(self) -> str:
        """Names the method and its version; there are no settings and no weights."""
        return METHOD

    def begin(self, preview: Iterable[NDArray[np.uint8]]) -> None:
        """Forget the previous video, and learn from the beginning of the next one how tall people are in it.

        Without that, groups and fragments are taken for persons until enough people have walked alone. Only the sizes
        are kept: a background of later than the first frame might show somebody who stands there by then.
        """
        self._start_again()
        for frame in islice(preview, _PREVIEW):
            self.detect(frame)
        self._start_again(self._stature)

    def _start_again(self, stature: Stature | None = None) -> None:
        self._background = Background()
        self._stature = stature or Stature()
        self._followed: list[_Followed] = []
        self._previous: Image | None = None
        self._chaos = 0

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """People in the next frame (H, W, 3) uint8 BGR. The first frame shows nobody: there is no background yet."""
        scale = max(1.0, max(frame.shape[:2]) / _LONG_SIDE)
        size = (max(8, round(frame.shape[1] / scale)), max(8, round(frame.shape[0] / scale)))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if scale > 1 else frame
        small = cv2.GaussianBlur(small, (3, 3), 0)
        if self._previous is not None and self._previous.shape != small.shape:
            self._start_again()
        different, certain = self._background.compare(small)
        previous, self._previous = self._previous, small
        if previous is None or self._background.learned_frames <= _FIRST_FRAMES:
            self._background.learn(small, np.zeros_like(different))
            return Detections.none()
        if different.mean() > _CHAOS:
            # Another picture altogether: lights switched, camera moved. Start again if it stays.
            self._chaos += 1
            if self._chaos >= 3:
                self._start_again()
            return Detections.none()
        self._chaos = 0
        moving = (cv2.absdiff(small, previous).max(axis=2) > 14).astype(np.uint8)
        found = self._find(small, different, certain, moving)
        scores = self._follow(found, moving)
        factor = np.array([frame.shape[1] / size[0], frame.shape[0] / size[1]] * 2, dtype=np.float32)
        boxes = np.asarray([item.box for item in found], dtype=np.float32).reshape(-1, 4) * factor
        boxes[:, 0::2] = np.clip(boxes[:, 0::2], 0, frame.shape[1])
        boxes[:, 1::2] = np.clip(boxes[:, 1::2], 0, frame.shape[0])
        order = np.argsort(-scores, kind="stable")
        real = order[((boxes[order, 2] - boxes[order, 0]) >= 2) & ((boxes[order, 3] - boxes[order, 1]) >= 2)]
        return Detections(boxes[real], scores[real])

    def _find(self, small: Image, different: Mask, certain: Mask, moving: Mask) -> list[_Found]:
        """Blobs of this frame, and the people they are made of. Teaches the background."""
        mask = cv2.medianBlur(different, 3)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 3), np.uint8))
        blobs, labels = self._blobs(mask, certain)
        kept: list[_Blob] = []
        absorb = np.zeros_like(mask)
        for blob in blobs:
            if self._uncovered(blob, labels, small, moving):
                _paint(absorb, blob, labels)
            else:
                kept.append(blob)
        places = {id(person): person.predicted(self._stature) for person in self._followed}
        kept = self._join(kept, places)
        found: list[_Found] = []
        keep = np.zeros_like(mask)
        for blob in kept:
            blob.inside = [p for p in self._followed if _share_inside(places[id(p)].box, blob) > 0.3]
            people = self._people(blob, labels, places, mask.shape)
            found += people
            settled = bool(blob.inside) and all(
                (not p.moved and p.age > _STILL_AFTER) or p.still > _STAND_AT_MOST for p in blob.inside
            )
            if not settled:
                _paint(keep, blob, labels)
        keep = cv2.dilate(keep, np.ones((5, 5), np.uint8))
        self._background.learn(small, keep, absorb)
        return found

    def _blobs(self, mask: Mask, certain: Mask) -> tuple[list[_Blob], NDArray[np.int32]]:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        sure = np.bincount(labels.ravel(), weights=certain.ravel(), minlength=count)
        blobs = []
        for label in range(1, count):
            left, top, width, height, area = stats[label].tolist()
            if area >= 25 and height >= 6 and sure[label] >= 0.1 * area:
                blobs.append(_Blob(left, top, left + width, top + height, area, [label]))
        return blobs, labels

    def _uncovered(self, blob: _Blob, labels: NDArray[np.int32], small: Image, moving: Mask) -> bool:
        """Whether the blob is background that somebody covered when it was learned: nothing moves in it, and its
        outline is an edge in the learned picture but not in the frame."""
        area = (slice(blob.top, blob.bottom), slice(blob.left, blob.right))
        mine = np.isin(labels[area], blob.labels)
        if blob.height < _SMALLEST or moving[area][mine].mean() > 0.02:
            return False
        height, width = labels.shape
        top, bottom = max(0, blob.top - 4), min(height, blob.bottom + 4)
        left, right = max(0, blob.left - 4), min(width, blob.right + 4)
        around = (slice(top, bottom), slice(left, right))
        shape = np.isin(labels[around], blob.labels).astype(np.uint8)
        ring = (cv2.dilate(shape, np.ones((5, 5), np.uint8)) - cv2.erode(shape, np.ones((5, 5), np.uint8))) > 0
        now = _edges(small[around].astype(np.float32))[ring].mean()
        then = _edges(self._background.predicted()[around])[ring].mean()
        return bool(then > 1.3 * now)

    def _join(self, blobs: list[_Blob], places: dict[int, _Place]) -> list[_Blob]:
        """Put the fragments of one person together again."""
        blobs = sorted(blobs, key=lambda blob: (-blob.area, blob.left, blob.top))
        changed = True
        while changed:
            changed = False
            for i in range(len(blobs)):
                for j in range(i + 1, len(blobs)):
                    if self._belong_together(blobs[i], blobs[j], places):
                        blobs[i] = blobs[i].joined(blobs.pop(j))
                        changed = True
                        break
                if changed:
                    break
        return blobs

    def _belong_together(self, a: _Blob, b: _Blob, places: dict[int, _Place]) -> bool:
        both = a.joined(b)
        expected = self._expected(both)
        across = min(a.right, b.right) - max(a.left, b.left)
        down = min(a.bottom, b.bottom) - max(a.top, b.top)
        gap_x, gap_y = max(0, -across), max(0, -down)
        if both.height > 1.15 * expected or both.width > 0.6 * expected:
            return False
        stacked = across >= 0.4 * min(a.width, b.width) and gap_y <= 0.25 * expected
        halves = down >= 0.5 * min(a.height, b.height) and gap_x <= 0.2 * expected
        if stacked or (halves and min(a.width, b.width) < 0.22 * expected and both.width <= 0.5 * expected):
            return True
        return any(
            _share(_blob_box(a), place.box) > 0.75 and _share(_blob_box(b), place.box) > 0.75
            for place in places.values()
        )

    def _expected(self, blob: _Blob) -> float:
        """How tall somebody is whose feet are at the bottom of this blob."""
        if self._stature.known:
            return self._stature.height(blob.bottom)
        return float(max(blob.height, 2.0 * blob.width, 24))

    def _people(
        self, blob: _Blob, labels: NDArray[np.int32], places: dict[int, _Place], shape: tuple[int, ...]
    ) -> list[_Found]:
        height, width = shape[:2]
        cut_below = blob.bottom >= height - 2
        cut_aside = blob.left <= 1 or blob.right >= width - 1
        expected = self._expected(blob)
        if cut_below and self._stature.known:
            expected = max(0.6 * blob.height, self._stature.foot(blob.top) - blob.top)
        fits = blob.width <= _WIDEST * expected and (blob.height <= _TALLEST * expected or blob.width < 0.3 * expected)
        whole = blob.height >= 0.78 * expected and blob.width >= 0.16 * expected
        if len(blob.inside) > 1 or not fits:
            return self._explain(blob, labels, places, shape)
        person = blob.inside[0] if blob.inside else None
        as_expected = self._stature.known and 0.82 <= blob.height / expected <= 1.18 and blob.width >= 0.2 * expected
        if person is not None and person.age > 5 and not as_expected:
            place = places[id(person)]
            less = blob.height < 0.8 * place.height or blob.width < 0.45 * place.width
            more = blob.height > 1.2 * place.height and blob.width > 1.2 * place.width
            if more or (less and not (cut_below or cut_aside)):
                return self._explain(blob, labels, places, shape)
        fill = blob.area / max(1, blob.width * blob.height)
        if blob.height < _SMALLEST or fill < 0.25 or blob.width > 1.2 * blob.height:
            return []
        if cut_aside and not (blob.height >= 0.7 * expected and blob.width >= 0.12 * expected):
            return []
        if blob.width < 0.16 * expected or (blob.height < 0.5 * expected and not cut_below):
            return []
        alone = whole and not cut_below and not cut_aside and 0.2 <= blob.width / blob.height <= 0.6
        return [_Found(_blob_box(blob), min(1.0, fill / 0.5), person, alone)]

    def _explain(
        self, blob: _Blob, labels: NDArray[np.int32], places: dict[int, _Place], shape: tuple[int, ...]
    ) -> list[_Found]:
        """Place people into a group until it is explained."""
        pixels = np.isin(labels[blob.top : blob.bottom, blob.left : blob.right], blob.labels).astype(np.uint8)
        candidates: list[tuple[_Place, _Followed | None]] = [(places[id(p)], p) for p in blob.inside]
        candidates += [(place, None) for place in self._sticking_out(blob, pixels)]
        rest = pixels.copy()
        people: list[_Found] = []
        all_sum = cv2.integral(pixels)
        while candidates and len(people) < 8:
            rest_sum = cv2.integral(rest)
            best: tuple[float, int, _Place, float] | None = None
            for number, (place, person) in enumerate(candidates):
                moved, gain, support = _best_shift(place, blob, rest_sum, all_sum, shape, free=person is not None)
                known = person is not None and person.age > 3
                if gain < (0.25 if known else _NEW_GAIN) or support < (0.45 if known else 0.6):
                    continue
                worth = gain * support + (0.5 if known else 0.0)
                if best is None or worth > best[0]:
                    best = (worth, number, moved, support)
            if best is None:
                break
            _, number, place, support = best
            person = candidates.pop(number)[1]
            people.append(_Found(place.box, support, person, alone=False))
            left, top, right, bottom = (round(side) for side in place.box)
            rest[
                max(0, top - blob.top - 2) : max(0, bottom - blob.top + 2),
                max(0, left + round(0.1 * place.width) - blob.left) : max(
                    0, right - round(0.1 * place.width) - blob.left
                ),
            ] = 0
        if len(people) == 1:
            people[0] = replace(people[0], box=_snapped(people[0].box, _blob_box(blob)))
        return people

    def _sticking_out(self, blob: _Blob, pixels: Mask) -> list[_Place]:
        """People whose head or feet make the outline of a group bulge."""
        columns = np.flatnonzero(pixels.any(axis=0))
        top = pixels.argmax(axis=0).astype(np.float32)
        bottom = (len(pixels) - pixels[::-1].argmax(axis=0)).astype(np.float32)
        usual = self._expected(blob)
        reach = max(3, int(0.16 * usual)) | 1
        places = []
        for row, column in _peaks(top, columns, reach):
            head = blob.top + row
            if self._stature.known:
                foot = self._stature.foot(head)
                tall = foot - head
            else:
                foot, tall = float(blob.bottom), blob.bottom - head
            if tall > _SMALLEST:
                places.append(_Place(blob.left + column, foot, _USUAL_WIDTH * tall, tall))
        for row, column in _peaks(-bottom, columns, reach):
            foot = blob.top - row
            tall = self._stature.height(foot) if self._stature.known else blob.height
            if tall > _SMALLEST:
                places.append(_Place(blob.left + column, foot, _USUAL_WIDTH * tall, float(tall)))
        return places

    def _follow(self, found: list[_Found], moving: Mask) -> NDArray[np.float32]:
        """Continue those who were followed, begin with the new, and say how sure each find is: (n,) float32."""
        for person in self._followed:
            person.matched = False
        scores = np.zeros(len(found), dtype=np.float32)
        owners: list[_Followed | None] = [None] * len(found)
        for number, item in enumerate(found):
            if item.continues is not None and not item.continues.matched:
                owners[number] = item.continues
                item.continues.matched = True
        pairs = sorted(
            (
                (-_overlap(item.box, person.predicted(self._stature).box), number, which)
                for number, item in enumerate(found)
                for which, person in enumerate(self._followed)
                if owners[number] is None and not person.matched
            ),
        )
        for worth, number, which in pairs:
            person = self._followed[which]
            if -worth > 0.2 and owners[number] is None and not person.matched:
                owners[number], person.matched = person, True
        fresh: list[_Followed] = []
        for number, item in enumerate(found):
            owner = owners[number]
            left, top, right, bottom = item.box
            x, width, tall = (left + right) / 2, right - left, bottom - top
            if owner is None:
                owner = _Followed(x, bottom, width, tall, (x, bottom), matched=True)
                fresh.append(owner)
            else:
                self._continue(owner, item)
            area = moving[max(0, round(top)) : max(0, round(bottom)), max(0, round(left)) : max(0, round(right))]
            activity = float(area.mean()) if area.size else 0.0
            owner.still = 0 if activity > 0.04 else owner.still + 1
            if owner.moved:
                scores[number] = 0.7 + 0.29 * min(1.0, item.support)
            elif owner.age <= 12 and activity > 0.05:
                scores[number] = 0.55
            else:
                scores[number] = 0.2
        for person in self._followed:
            if not person.matched:
                person.unseen += 1
        patience = _FORGET_AFTER
        self._followed = [p for p in self._followed if p.unseen <= (patience if p.moved else 3)] + fresh
        return scores

    def _continue(self, person: _Followed, item: _Found) -> None:
        left, top, right, bottom = item.box
        x, width, tall = (left + right) / 2, right - left, bottom - top
        steps = 1 + person.unseen
        rate = 0.35 if item.alone else 0.15
        person.speed_x += rate * ((x - person.x) / steps - person.speed_x)
        person.speed_foot += rate * ((bottom - person.foot) / steps - person.speed_foot)
        person.x, person.foot = x, bottom
        blend = 0.3 if item.alone else (0.0 if item.continues is not None and person.age > 5 else 0.3)
        if blend == 0.0 and self._stature.known:
            person.height = tall
        else:
            person.width += blend * (width - person.width)
            person.height += max(blend, 0.5 if item.alone else blend) * (tall - person.height)
        person.age += 1
        person.unseen = 0
        if not person.moved:
            distance = float(np.hypot(x - person.born[0], bottom - person.born[1]))
            person.moved = distance > max(5.0, 0.12 * person.height)
        if item.alone and person.moved and person.age > 3 and 0.2 <= width / tall <= 0.6:
            self._stature.add(bottom, tall)


def _edges(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    strength: NDArray[np.float32] = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0))
    strength += np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return strength


def _paint(mask: Mask, blob: _Blob, labels: NDArray[np.int32]) -> None:
    area = (slice(blob.top, blob.bottom), slice(blob.left, blob.right))
    mask[area] |= np.isin(labels[area], blob.labels).astype(np.uint8)


def _blob_box(blob: _Blob) -> tuple[float, float, float, float]:
    return float(blob.left), float(blob.top), float(blob.right), float(blob.bottom)


def _snapped(
    box: tuple[float, float, float, float], blob: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """The box of the only person in a blob: the blob's own sides where they are a person's."""
    left, top, right, bottom = box
    if 0.45 <= (blob[2] - blob[0]) / (right - left) <= 1.7:
        left, right = blob[0], blob[2]
    if 0.82 <= (blob[3] - blob[1]) / (bottom - top) <= _SNAP:
        top, bottom = blob[1], blob[3]
    return left, top, right, bottom


def _common(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _size(box: tuple[float, float, float, float]) -> float:
    return max(1e-6, (box[2] - box[0]) * (box[3] - box[1]))


def _share(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Which share of `a` lies in `b`."""
    return _common(a, b) / _size(a)


def _share_inside(box: tuple[float, float, float, float], blob: _Blob) -> float:
    return _share(box, _blob_box(blob))


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    common = _common(a, b)
    return common / (_size(a) + _size(b) - common)


def _peaks(level: NDArray[np.float32], columns: NDArray[np.intp], reach: int) -> list[tuple[float, float]]:
    """Local minima (level, column) of a curve over `columns`, at least `reach` apart."""
    curve = np.full(len(level), np.float32(1e6))
    curve[columns] = level[columns]
    lowest = cv2.erode(curve[None], np.ones((1, 2 * reach + 1), np.uint8), borderValue=1e6)[0]
    at = np.flatnonzero((curve <= lowest + 0.5) & (curve < 1e6))
    if len(at) == 0:
        return []
    runs = np.split(at, np.flatnonzero(np.diff(at) > reach // 2) + 1)
    return [(float(curve[run].min()), float(run.mean())) for run in runs]


def _best_shift(
    place: _Place,
    blob: _Blob,
    rest_sum: NDArray[np.int32],
    all_sum: NDArray[np.int32],
    shape: tuple[int, ...],
    *,
    free: bool,
) -> tuple[_Place, float, float]:
    """Move a place a little so that its body covers most of what is unexplained.

    Returns the moved place, the share of its body that is unexplained so far, and the share that is in the group.
    """
    sideways = np.linspace(-0.28, 0.28, 9 if free else 5) * place.width * (1.0 if free else 0.6)
    along = np.linspace(-0.08, 0.08, 5 if free else 3) * place.height
    shift_x, shift_y = (grid.ravel() for grid in np.meshgrid(sideways, along))
    half = 0.28 * place.width
    x1, x2 = place.x + shift_x - half, place.x + shift_x + half
    y1 = place.foot + shift_y - 0.94 * place.height
    y2 = np.minimum(place.foot + shift_y - 0.05 * place.height, shape[0])
    x1, x2 = np.maximum(x1, 0), np.minimum(x2, shape[1])
    area = np.maximum((x2 - x1) * (y2 - y1), 1.0)

    def total(sums: NDArray[np.int32]) -> NDArray[np.float64]:
        left = np.clip(np.rint(x1 - blob.left), 0, sums.shape[1] - 1).astype(int)
        right = np.clip(np.rint(x2 - blob.left), 0, sums.shape[1] - 1).astype(int)
        upper = np.clip(np.rint(y1 - blob.top), 0, sums.shape[0] - 1).astype(int)
        lower = np.clip(np.rint(y2 - blob.top), 0, sums.shape[0] - 1).astype(int)
        inside = sums[lower, right] - sums[upper, right] - sums[lower, left] + sums[upper, left]
        return np.asarray(inside, dtype=np.float64)

    gain, support = total(rest_sum) / area, total(all_sum) / area
    distance = np.abs(shift_x) / place.width + np.abs(shift_y) / place.height
    best = int(np.argmax(gain + support - 0.5 * distance))
    moved = _Place(place.x + float(shift_x[best]), place.foot + float(shift_y[best]), place.width, place.height)
    return moved, float(min(1.0, gain[best])), float(min(1.0, support[best]))
