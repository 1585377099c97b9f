"""Forgetting: crops and tracklets go, with everything drawn from them, and no later ingest brings them back.

What is forgotten is written down in `erasures.jsonl` before anything is removed; removing is nothing but making the
workspace obey that file. So after a crash in between, whatever obeys it next finishes the work: the same command, any
other one that forgets, or the next ingest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingest.carried_erasures import carry_erasures, lines_to_carry_in, states_of
from ingest.content_hash import ContentHashes
from ingest.derived import remove_derived
from ingest.erasure_selection import Selection, erasures_of, not_yet_known, time_unknown
from ingest.erasures import ErasedRegions, Erasure, add_erasures, load_erasures
from ingest.recording_file import StoreError
from ingest.shard_writer import copy_without
from ingest.shards import TEMPORARY_PREFIX, Shard, newest_shards, remove_leftovers, remove_superseded, shard_id
from ingest.site import SiteConfig, camera_videos
from ingest.workspace import Workspace
from models.atomic import publish_folder

_GONE = 0.5
"""A tracklet of which so much of the way is erased goes as a whole."""


@dataclass
class Forgotten:
    """What is forgotten, or would be.

    Attributes:
        tracklets: their ids; the gallery drops them when it is indexed next.
        crops: how many pictures; of them, those that show an erased place go though their tracklet stays.
        untimed: recordings of which nobody knows when they were made: they stay.
        waiting: recordings of the chosen cameras that were not ingested yet: they stay, and so does who is in them.
        missing: tracklets that were asked for and are not there.
    """

    tracklets: list[str] = field(default_factory=list)
    crops: int = 0
    untimed: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def remarks(self) -> list[str]:
        """What a person should know besides, a sentence each."""
        return [
            *(f"stays, because nobody knows when it was recorded: {name}" for name in self.untimed),
            *(f"not ingested yet, so nobody in it is forgotten: {name}" for name in self.waiting),
            *(f"not there (erased before, or never was): {name}" for name in self.missing),
        ]


@dataclass(frozen=True)
class Loss:
    """What a shard loses: ids of tracklets, and ids of all crops, also those of tracklets that stay."""

    shard: Shard
    tracklets: frozenset[str]
    crops: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """What forgetting comes to: lines for `erasures.jsonl`, and what every shard then loses that does not obey yet."""

    erasures: list[Erasure]
    losses: list[Loss]
    found: Forgotten


def forget(site: SiteConfig, selection: Selection, *, really: bool = True) -> Forgotten:
    """Forget what is selected.

    Args:
        site: whose workspace.
        selection: what.
        really: do it; False only says what would go.

    Raises:
        WorkspaceBusy: another command writes into the workspace.
        ErasureError, ShardError: what lies there cannot be read; nothing is removed then.
    """
    workspace = Workspace(site)
    with workspace.lock():
        if not really:
            return plan_forgetting(workspace, selection).found
        remove_leftovers(workspace)
        return forget_in(workspace, selection)


def forget_in(workspace: Workspace, selection: Selection) -> Forgotten:
    """As `forget`; the caller holds the lock and has removed leftovers."""
    plan = plan_forgetting(workspace, selection)
    if plan.erasures or plan.losses:
        add_erasures(workspace.erasures, plan.erasures)
        obey_erasures(workspace)
    return plan.found


def plan_forgetting(workspace: Workspace, selection: Selection) -> Plan:
    """What forgetting a selection comes to. Changes nothing.

    Raises:
        ErasureError, ShardError: what lies there cannot be read.
    """
    known = load_erasures(workspace.erasures)
    shards = newest_shards(workspace)
    chosen = [erasure for shard in shards for erasure in erasures_of(shard, selection)]
    new = not_yet_known(chosen, known)
    new += lines_to_carry_in(shards, [*known, *new])
    losses = _losses(shards, [*known, *new])
    found = Forgotten(
        tracklets=sorted({name for loss in losses for name in loss.tracklets}),
        crops=sum(len(loss.crops) for loss in losses),
        untimed=[
            f"{shard.camera_id}: {shard.summary['video_name']}" for shard in shards if time_unknown(shard, selection)
        ],
        waiting=_waiting(workspace, shards, selection),
        missing=sorted(
            selection.tracklets.difference(
                *(shard.tracklets()["tracklet_id"].to_pylist() for shard in shards if _may_hold(shard, selection))
            )
        ),
    )
    return Plan(new, losses, found)


def obey_erasures(workspace: Workspace) -> list[Loss]:
    """Bring every shard in line with `erasures.jsonl`, and remove what was made from those that change. Holds the lock.

    Returns:
        What went.

    Raises:
        ErasureError, ShardError: what lies there cannot be read.
    """
    carry_erasures(workspace)
    erasures = load_erasures(workspace.erasures)
    losses = _losses(newest_shards(workspace), erasures)
    # First what was made from the shards: a shard that obeys says that nothing of it is left elsewhere.
    remove_derived(workspace, recordings_of(losses))
    for loss in losses:
        _rewrite(workspace, loss, erasures)
    remove_superseded(workspace)
    return losses


def loss_of(shard: Shard, erasures: Sequence[Erasure]) -> Loss | None:
    """What a shard loses to erasures that it does not obey yet; None when it obeys.

    Args:
        shard: any.
        erasures: all of the workspace, or of the shard's recording.

    Raises:
        ShardError: the shard cannot be read.
    """
    own = _own(shard, erasures)
    obeyed: list[dict[str, Any]] = shard.summary["settings"].get("erasures", [])
    if own == obeyed:
        return None
    regions = ErasedRegions(e for e in erasures if e.video_sha256 == shard.video_sha256 and e.to_json() not in obeyed)
    gone = {row["tracklet_id"] for row in shard.tracklets().to_pylist() if _goes(row, regions)}
    lost: set[str] = set()
    kept: set[str] = set()
    for row in shard.crops().to_pylist():
        box = np.asarray([[row["x1"], row["y1"], row["x2"], row["y2"]]], np.float32)
        # Somebody else's picture may show mostly who is erased: one walked behind the other.
        if row["tracklet_id"] in gone or regions.cover(row["pts_s"], box)[0]:
            lost.add(row["crop_id"])
        else:
            kept.add(row["tracklet_id"])
    emptied = {crop.rpartition("/")[0] for crop in lost} - kept
    return Loss(shard, frozenset(gone | emptied), frozenset(lost))


def recordings_of(losses: Iterable[Loss]) -> set[str]:
    """The sha256 of the recordings that something is lost of, earlier and shorter states of them included."""
    return {state for loss in losses for state in states_of(loss.shard)}


def _own(shard: Shard, erasures: Iterable[Erasure]) -> list[dict[str, Any]]:
    return [erasure.to_json() for erasure in erasures if erasure.video_sha256 == shard.video_sha256]


def _losses(shards: Iterable[Shard], erasures: Sequence[Erasure]) -> list[Loss]:
    touched = {erasure.video_sha256 for erasure in erasures}
    found = (loss_of(shard, erasures) for shard in shards if shard.video_sha256 in touched)
    return [loss for loss in found if loss is not None]


def _goes(row: dict[str, Any], regions: ErasedRegions) -> bool:
    if regions.frame_between(row["start_pts_s"], row["end_pts_s"]):
        return True
    corners = [[point[name] for name in ("x1", "y1", "x2", "y2")] for point in row["path"]]
    boxes = np.asarray(corners, np.float32).reshape(-1, 1, 4)
    erased = sum(bool(regions.cover(point["t"], box)[0]) for point, box in zip(row["path"], boxes, strict=True))
    return bool(erased) and erased >= _GONE * len(boxes)


def _may_hold(shard: Shard, selection: Selection) -> bool:
    start = f"{shard.camera_id}/{shard.video_id}/"
    return any(name.startswith(start) for name in selection.tracklets)


def _waiting(workspace: Workspace, shards: Sequence[Shard], selection: Selection) -> list[str]:
    hashes = ContentHashes(workspace)
    found = []
    for camera in workspace.site.cameras:
        if camera.id not in selection.spans:
            continue
        done = {shard.video_sha256 for shard in shards if shard.camera_id == camera.id}
        try:
            recordings = camera_videos(camera)
        except StoreError as error:
            found.append(f"{camera.id}: {error}")
            continue
        found += [f"{camera.id}: {r.path.name}" for r in recordings if hashes.known(r.path) not in done]
    return found


def _rewrite(workspace: Workspace, loss: Loss, erasures: Sequence[Erasure]) -> None:
    """Put a new generation without what is lost in a shard's place, under the id that ingest would give it now."""
    shard = loss.shard
    settings = {**shard.summary["settings"], "erasures": _own(shard, erasures)}
    name = shard_id(shard.video_id, settings)
    summary = {
        **shard.summary,
        "shard_id": name,
        "settings": settings,
        "generation": shard.generation + 1,
    }
    folder = shard.path.with_name(f"{TEMPORARY_PREFIX}{name}")
    copy_without(shard, loss.tracklets, loss.crops, folder, summary)
    publish_folder(folder, shard.path.with_name(name))
