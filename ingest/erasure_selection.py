"""What somebody asks to be erased, and what that means in each recording.

A tracklet is erased along its way: its boxes, sampled over time, become erased pieces of the recording, so that others
who were there at the same time stay. A time is erased with everybody who was seen in it, those included who came before
it or stayed beyond it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from ingest.erasures import Erasure
from ingest.shards import Shard, cameras_with_shards
from ingest.site import SiteConfig
from ingest.workspace import Workspace

MARGIN_S = 0.5
"""Before its first and after its last sighting somebody was most likely seen too, if not well enough."""
_SAMPLED_S = 0.5
_TRACKLET = re.compile(r"[^/\s]+/[^/\s]+/\d+")
_Sample = tuple[float, tuple[float, float, float, float]]


@dataclass(frozen=True)
class Span:
    """A time, ends included, each aware or None for open. With both open it is everything, of unknown time too."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def everything(self) -> bool:
        """Whether both ends are open."""
        return self.since is None and self.until is None


@dataclass(frozen=True)
class Selection:
    """What is to be erased.

    Attributes:
        tracklets: ids, camera/video/number.
        spans: what cameras saw in some time, by camera id.
    """

    tracklets: frozenset[str] = frozenset()
    spans: Mapping[str, Span] = field(default_factory=dict)


class SelectionError(ValueError):
    """What somebody asks to be erased cannot be understood."""


def make_selection(
    site: SiteConfig,
    *,
    tracklets: Sequence[str] = (),
    camera: str | None = None,
    since: str | None = None,
    until: str | None = None,
    everything: bool = False,
) -> Selection:
    """A selection as a person writes it: tracklets, or a camera with a time or `everything`.

    Args:
        camera: of site.yaml, or one that was taken out and has left shards.
        since, until: ISO 8601; without an offset, in the site's timezone.

    Raises:
        SelectionError, SiteError: nothing is chosen, too much is, there is no such camera, or a moment is none.
    """
    if bool(tracklets) == (camera is not None):
        raise SelectionError("choose what to erase: tracklets, or a camera with a time or with all it saw")
    if tracklets:
        if since or until or everything:
            raise SelectionError("a tracklet is erased as a whole; leave the time out")
        for name in tracklets:
            if not _TRACKLET.fullmatch(name):
                raise SelectionError(f"'{name[:200]}' is not a tracklet's id, which is camera/video/number")
        return Selection(tracklets=frozenset(tracklets))
    if bool(since or until) == everything:
        raise SelectionError("with a camera, say since or until when, or that all it saw is to be erased")
    assert camera is not None
    # Where clocks are set back an hour comes twice: both of it, rather than too little.
    span = Span(_moment(site, since, "since", fold=0), _moment(site, until, "until", fold=1))
    if span.since is not None and span.until is not None and span.since > span.until:
        raise SelectionError(f"since ({since}) lies after until ({until}); swap them")
    if camera not in cameras_with_shards(Workspace(site)):
        site.camera(camera)  # says which there are
    return Selection(spans={camera: span})


def _moment(site: SiteConfig, text: str | None, name: str, fold: int) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        if len(text.strip()) <= len("2026-03-01"):
            raise ValueError("a day is no moment")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=site.zone, fold=fold)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SelectionError(
            f"{name}: '{text[:60]}' is not a moment; write 2026-03-01T08:00 (in the site's timezone, {site.timezone}), "
            "or with an offset, such as 2026-03-01T08:00:00+01:00"
        ) from None


def expired(site: SiteConfig, now: datetime) -> Selection:
    """What is older than its camera's retention, or else the site's.

    Cameras that were taken out of site.yaml count, since their shards stay.
    """
    days = dict.fromkeys(sorted(cameras_with_shards(Workspace(site))), site.retention_days)
    days |= {camera.id: camera.retention_days or site.retention_days for camera in site.cameras}
    spans = {camera: Span(until=now - timedelta(days=count)) for camera, count in days.items() if count is not None}
    return Selection(spans=spans)


def erasures_of(shard: Shard, selection: Selection) -> list[Erasure]:
    """The pieces of a shard's recording that a selection erases.

    A recording of which nobody knows when it was made is erased with everything its camera saw, and with no other time.
    """
    wanted = {name for name in selection.tracklets if name.startswith(f"{shard.camera_id}/{shard.video_id}/")}
    whole = _whole_frame(shard, selection.spans.get(shard.camera_id))
    if whole is None and not wanted:
        return []
    erasures = [] if whole is None else [whole]
    if not shard.summary["counts"]["tracklets"]:
        return erasures
    for row in shard.tracklets().to_pylist():
        if whole is not None and row["start_pts_s"] <= whole.end_pts_s and row["end_pts_s"] >= whole.start_pts_s:
            inside = row["start_pts_s"] >= whole.start_pts_s and row["end_pts_s"] <= whole.end_pts_s
            erasures += [] if inside else [piece for piece in pieces(shard, row) if not _within(piece, whole)]
        elif row["tracklet_id"] in wanted:
            erasures += pieces(shard, row)
    return erasures


def time_unknown(shard: Shard, selection: Selection) -> bool:
    """Whether a time is to be erased and nobody knows when this recording, which has tracklets, was made."""
    span = selection.spans.get(shard.camera_id)
    timeless = shard.summary["start"] is None and bool(shard.summary["counts"]["tracklets"])
    return span is not None and not span.everything and timeless


def pieces(shard: Shard, tracklet: Mapping[str, Any]) -> list[Erasure]:
    """A tracklet's way, as erased pieces: between two samples of its path, whatever lies between their boxes.

    Long tracklets are sampled sparsely; the longer it takes to the next sample, the more room is left for detours.

    Args:
        shard: it lies in.
        tracklet: its row of `tracklets.parquet`.
    """
    path: list[_Sample] = sorted(
        (float(point["t"]), (point["x1"], point["y1"], point["x2"], point["y2"])) for point in tracklet["path"]
    )
    ends = list(pairwise(path)) or [(path[0], path[0])]
    found = []
    for number, ((start_s, first), (end_s, second)) in enumerate(ends):
        room = max(0.0, end_s - start_s - _SAMPLED_S) * max(first[2] - first[0], second[2] - second[0])
        found.append(
            Erasure(
                shard.video_sha256,
                max(0.0, start_s - (MARGIN_S if number == 0 else 0.0)),
                end_s + (MARGIN_S if number == len(ends) - 1 else 0.0),
                (
                    min(first[0], second[0]) - room,
                    min(first[1], second[1]) - room,
                    max(first[2], second[2]) + room,
                    max(first[3], second[3]) + room,
                ),
            )
        )
    return found


def not_yet_known(erasures: Iterable[Erasure], known: Iterable[Erasure]) -> list[Erasure]:
    """Those that say something new: neither the same piece nor a longer one of the whole frame is known."""
    lines = set(known)
    by_recording: dict[str, list[Erasure]] = {}
    for line in lines:
        if line.box is None:
            by_recording.setdefault(line.video_sha256, []).append(line)
    return [
        erasure
        for erasure in erasures
        if erasure not in lines
        and not any(_within(erasure, other) for other in by_recording.get(erasure.video_sha256, []))
    ]


def _whole_frame(shard: Shard, span: Span | None) -> Erasure | None:
    """The part of a recording in that time, None when there is none or nobody knows."""
    if span is None:
        return None
    length_s = float(shard.summary["duration_s"])
    if span.everything and shard.summary["counts"]["tracklets"]:
        # Imported crops have times of their own making, and no duration.
        length_s = max(length_s, *shard.tracklets()["end_pts_s"].to_pylist())
    if span.everything:
        return Erasure(shard.video_sha256, 0.0, length_s, None)
    if shard.summary["start"] is None:
        return None
    begin = datetime.fromisoformat(shard.summary["start"])
    start_s = 0.0 if span.since is None else max(0.0, (span.since - begin).total_seconds())
    # Of a recording that is too old as a whole every later moment says the same.
    end_s = length_s if span.until is None else min(length_s, (span.until - begin).total_seconds())
    return Erasure(shard.video_sha256, start_s, end_s, None) if start_s <= end_s else None


def _within(piece: Erasure, whole: Erasure) -> bool:
    return whole.start_pts_s <= piece.start_pts_s and piece.end_pts_s <= whole.end_pts_s
