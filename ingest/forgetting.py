"""Forgetting what a camera saw before some moment: crops and tracklets go, and no later ingest brings them back.

What is forgotten is written down in `erasures.jsonl` before anything is removed, so that a crash in between leaves
either a shard that the next run of the same command finishes with, or one that the next ingest replaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.erasures import Erasure, add_erasures, load_erasures
from ingest.shard_writer import copy_without
from ingest.shards import TEMPORARY_PREFIX, Shard, newest_shards, remove_leftovers, remove_superseded, shard_id
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.atomic import publish_folder


@dataclass
class Forgotten:
    """What is forgotten, or would be.

    Attributes:
        tracklets: their ids; the gallery drops them when it is indexed next.
        crops: how many pictures.
        untimed: recordings of which nobody knows when they were made: they stay.
    """

    tracklets: list[str] = field(default_factory=list)
    crops: int = 0
    untimed: list[str] = field(default_factory=list)


def expiry(site: SiteConfig, now: datetime) -> dict[str, datetime]:
    """Before which moment each camera's sightings are too old, for cameras that have a retention."""
    days = {camera.id: camera.retention_days or site.retention_days for camera in site.cameras}
    return {camera: now - timedelta(days=count) for camera, count in days.items() if count is not None}


def forget(site: SiteConfig, before: dict[str, datetime], *, really: bool = True) -> Forgotten:
    """Forget what cameras saw before some moment.

    A tracklet that begins before that moment goes as a whole.

    Args:
        site: whose workspace.
        before: moment (aware) by camera id.
        really: do it; False only says what would go.

    Raises:
        WorkspaceBusy: another command writes into the workspace.
        ErasureError, ShardError: what lies there cannot be read; nothing is removed then.
    """
    workspace = Workspace(site)
    found = Forgotten()
    with workspace.lock():
        if really:
            remove_leftovers(workspace)
        known = load_erasures(workspace.erasures)
        chosen: list[tuple[Shard, set[str], Erasure]] = []
        for camera, moment in sorted(before.items()):
            for shard in newest_shards(workspace, camera):
                erasure = _too_old(shard, moment)
                if shard.summary["start"] is None and shard.summary["counts"]["tracklets"]:
                    found.untimed.append(f"{camera}: {shard.summary['video_name']}")
                if erasure is None:
                    continue
                gone = {
                    row["tracklet_id"]
                    for row in shard.tracklets().select(["tracklet_id", "start_pts_s"]).to_pylist()
                    if row["start_pts_s"] <= erasure.end_pts_s
                }
                if gone or not _covered(erasure, known):
                    chosen.append((shard, gone, erasure))
                found.tracklets += sorted(gone)
                found.crops += sum(name in gone for name in shard.crops()["tracklet_id"].to_pylist())
        if really:
            add_erasures(workspace.erasures, [erasure for _, _, erasure in chosen if not _covered(erasure, known)])
            known = load_erasures(workspace.erasures)
            for shard, gone, _ in chosen:
                _rewrite(workspace, shard, gone, known)
    return found


def _too_old(shard: Shard, before: datetime) -> Erasure | None:
    """The part of a recording before that moment, None when there is none or nobody knows."""
    summary: dict[str, Any] = shard.summary
    if summary["start"] is None:
        return None
    span_s = (before.astimezone(UTC) - datetime.fromisoformat(summary["start"])).total_seconds()
    if span_s <= 0:
        return None
    # Of a recording that is too old as a whole every later moment says the same.
    return Erasure(shard.video_sha256, 0.0, min(span_s, float(summary["duration_s"])), None)


def _covered(erasure: Erasure, known: Iterable[Erasure]) -> bool:
    return any(
        other.video_sha256 == erasure.video_sha256
        and other.box is None
        and other.start_pts_s <= erasure.start_pts_s
        and other.end_pts_s >= erasure.end_pts_s
        for other in known
    )


def _rewrite(workspace: Workspace, shard: Shard, gone: set[str], erasures: list[Erasure]) -> None:
    """Put a new generation without those tracklets in a shard's place, under the id that ingest would give it now."""
    own = [erasure.to_json() for erasure in erasures if erasure.video_sha256 == shard.video_sha256]
    settings = {**shard.summary["settings"], "erasures": own}
    name = shard_id(shard.video_id, settings)
    summary = {
        **shard.summary,
        "shard_id": name,
        "settings": settings,
        "generation": shard.generation + 1,
    }
    folder = shard.path.with_name(f"{TEMPORARY_PREFIX}{name}")
    copy_without(shard, gone, folder, summary)
    publish_folder(folder, shard.path.with_name(name))
    remove_superseded(workspace)
