"""Confirmed hits in the order of time: where somebody was, how long nothing was seen of them, which way they went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Seen:
    """One confirmed hit. Times: UTC microseconds, None where the recording does not say."""

    hit_id: int
    camera_id: str
    first_seen: int | None
    last_seen: int | None


@dataclass(frozen=True)
class Placed:
    """A hit on the timeline. `gap_us`: since the hit before it ended, less than 0 where both were at once; None for the
    first."""

    seen: Seen
    begin: int
    end: int
    gap_us: int | None


@dataclass(frozen=True)
class Move:
    """From one camera to another: two hits that follow each other. Times: UTC microseconds."""

    begin_camera: str
    end_camera: str
    left: int
    arrived: int


def place(hits: Iterable[Seen]) -> tuple[list[Placed], list[Seen]]:
    """Put hits in the order of time.

    Returns:
        Those of known time by when they begin, and the others by hit id.
    """
    undated, dated = [], []
    for hit in hits:
        if hit.first_seen is None or hit.last_seen is None:
            undated.append(hit)
        else:
            dated.append((hit.first_seen, hit.last_seen, hit))
    placed: list[Placed] = []
    for begin, end, hit in sorted(dated, key=lambda one: (one[0], one[1], one[2].hit_id)):
        placed.append(Placed(hit, begin, end, begin - placed[-1].end if placed else None))
    return placed, sorted(undated, key=lambda hit: hit.hit_id)


def moves(placed: list[Placed]) -> list[Move]:
    """The changes of camera along the timeline."""
    return [
        Move(before.seen.camera_id, after.seen.camera_id, before.end, after.begin)
        for before, after in pairwise(placed)
        if before.seen.camera_id != after.seen.camera_id
    ]
