"""What narrows a search: cameras, time, and how good the pictures are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import BadQuery

NO_TIME = np.iinfo(np.int64).min
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
# In a query string an unescaped + means a space.
_UNESCAPED_PLUS = re.compile(r" (?=\d\d:\d\d$)")


@dataclass(frozen=True)
class SearchFilters:
    """Which tracklets a search may find.

    Attributes:
        cameras: only these; empty: all.
        exclude_cameras: not these.
        since, until: UTC microseconds; only tracklets whose time, from first to last seen, touches this span (ends
            included). A tracklet of unknown time never does.
        min_quality: only tracklets whose best crop is at least that good, 0..1; None: all.
        exclude_tracklets: not these: the one that a search starts from, those that were judged already.
    """

    cameras: frozenset[str] = field(default_factory=frozenset)
    exclude_cameras: frozenset[str] = field(default_factory=frozenset)
    since: int | None = None
    until: int | None = None
    min_quality: float | None = None
    exclude_tracklets: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class FilterColumns:
    """The gallery as a filter sees it, a row per tracklet.

    Attributes:
        tracklet_ids: in ascending order.
        camera: int32 (N,), index into `camera_ids`.
        first_seen, last_seen: int64 (N,), UTC microseconds, `NO_TIME` where unknown.
        quality: float32 (N,), of the best crop, 0..1, NaN where unknown.
    """

    tracklet_ids: Sequence[str]
    camera_ids: Sequence[str]
    camera: NDArray[np.int32]
    first_seen: NDArray[np.int64]
    last_seen: NDArray[np.int64]
    quality: NDArray[np.float32]

    def allowed(self, filters: SearchFilters, seen: Set[str] | None) -> NDArray[np.bool_] | None:
        """Which rows may be found, bool (N,); None for all.

        Args:
            filters: what the client asks for.
            seen: cameras that the caller may see (`Caller.cameras`); None: all.
        """
        if filters == SearchFilters() and seen is None:
            return None
        allowed, span = np.ones(len(self.tracklet_ids), np.bool_), slice(None)
        if filters.cameras or filters.exclude_cameras or seen is not None:
            wanted = [
                (seen is None or camera in seen)
                and (not filters.cameras or camera in filters.cameras)
                and camera not in filters.exclude_cameras
                for camera in self.camera_ids
            ]
            cameras, starts = self._runs
            passing = np.array(wanted, np.bool_)[cameras]
            allowed = np.repeat(passing, np.diff(starts))
            # What else is asked needs no look at the rows before and after.
            runs = np.flatnonzero(passing)
            span = slice(starts[runs[0]], starts[runs[-1] + 1]) if len(runs) else slice(0, 0)
        inside = allowed[span]  # a view
        if filters.since is not None or filters.until is not None:
            inside &= (self.first_seen[span] != NO_TIME) & (self.last_seen[span] != NO_TIME)
        if filters.since is not None:
            inside &= self.last_seen[span] >= filters.since
        if filters.until is not None:
            inside &= self.first_seen[span] <= filters.until
        if filters.min_quality is not None:
            inside &= self.quality[span] >= np.float32(filters.min_quality)
        for tracklet_id in filters.exclude_tracklets:
            row = self.row(tracklet_id)
            if row is not None:
                allowed[row] = False
        return allowed

    @cached_property
    def _runs(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Runs of rows of one camera, few since a tracklet id begins with its camera: the camera of each (R,), and
        where it starts, with the end of the last (R + 1,)."""
        starts = np.flatnonzero(np.diff(self.camera, prepend=-1))
        return self.camera[starts], np.append(starts, len(self.camera))

    def row(self, tracklet_id: str) -> int | None:
        """The row of a tracklet, None when the gallery has no vector of it."""
        from bisect import bisect_left

        row = bisect_left(self.tracklet_ids, tracklet_id)
        found = row < len(self.tracklet_ids) and self.tracklet_ids[row] == tracklet_id
        return row if found else None


def parse_moment(text: str, name: str) -> int:
    """A moment as RFC 3339 with offset, in UTC microseconds.

    Args:
        name: of the parameter, for the message.

    Raises:
        BadQuery: it is not one.
    """
    given = _UNESCAPED_PLUS.sub("+", text.strip())
    try:
        if not _RFC3339.fullmatch(given):
            raise ValueError
        moment = datetime.fromisoformat(given.upper()).astimezone(UTC)  # overflows at the ends of the calendar
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise BadQuery(
            f"{name}: {text[:60]!r} is not a moment; write RFC 3339 with its offset, such as "
            "2026-03-01T08:00:00+01:00 or 2026-03-01T07:00:00Z (in an address, + is written %2B)"
        ) from None


def format_moment(microseconds: int | None) -> str | None:
    """UTC microseconds as RFC 3339, such as 2026-03-01T07:00:00.250000Z; None stays None."""
    if microseconds is None:
        return None
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.replace(tzinfo=None).isoformat() + "Z"


def make_filters(
    known_cameras: Sequence[str],
    cameras: Sequence[str] = (),
    exclude_cameras: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    min_quality: float | None = None,
    exclude_tracklets: Iterable[str] = (),
) -> SearchFilters:
    """Filters as a client writes them.

    Args:
        known_cameras: the site's.
        cameras, exclude_cameras: ids; an entry may name several, separated by commas.
        since, until: RFC 3339 with offset; empty counts as not given.
        min_quality: 0..1.
        exclude_tracklets: ids, also ones that the gallery does not have.

    Raises:
        BadQuery: a camera the site does not have, a moment that is none, a span that ends before it begins, or a
            quality outside 0..1.
    """
    from_us = parse_moment(since, "since") if since else None
    until_us = parse_moment(until, "until") if until else None
    if from_us is not None and until_us is not None and from_us > until_us:
        raise BadQuery(f"since ({since}) lies after until ({until}); swap them")
    if min_quality is not None and not 0 <= min_quality <= 1:
        raise BadQuery(f"min_quality is {min_quality}; give a number from 0 (all) to 1")
    return SearchFilters(
        cameras=_cameras(known_cameras, cameras, "cameras"),
        exclude_cameras=_cameras(known_cameras, exclude_cameras, "exclude_cameras"),
        since=from_us,
        until=until_us,
        min_quality=min_quality or None,
        exclude_tracklets=frozenset(exclude_tracklets),
    )


def _cameras(known: Sequence[str], given: Sequence[str], name: str) -> frozenset[str]:
    wanted = {part.strip() for entry in given for part in entry.split(",")} - {""}
    unknown = sorted(wanted - set(known))
    if unknown:
        raise BadQuery(f"{name}: the site has no camera {unknown[0][:60]!r}; it has {', '.join(known)}")
    return frozenset(wanted)
