"""The whole of an erasure: written down, removed from every place, looked for, and proven.

1  the order, in erasures/<id>.json                    from here on the next run finishes what a crash leaves
2  lines in erasures.jsonl                             a running service shows nothing of it any more
3  reports, training runs, then the shards             `ingest.forgetting.obey_erasures`
4  rows, vectors and indexes; free pages and the log   `build_gallery`, `Database.scrub`
5  a search for all of it, and the proof
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gallery_service.caller import Caller
from gallery_service.databases.gallery import gallery_database
from gallery_service.erasure.erased_tracklets import ErasedTracklets
from gallery_service.erasure.orders import (
    ErasedTracklet,
    Order,
    earlier_of,
    grown_into,
    new_id,
    now,
    read_orders,
    write_order,
)
from gallery_service.erasure.search_afterwards import models_that_learned, search_afterwards
from gallery_service.errors import Conflict, NotFound
from gallery_service.indexing.build import build_gallery, compact_gallery
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.shard_rows import shard_name
from ingest.carried_erasures import carry_erasures
from ingest.derived import remove_derived
from ingest.erasure_selection import Selection, not_yet_known
from ingest.erasures import add_erasures, load_erasures
from ingest.forgetting import Forgotten, Loss, Plan, obey_erasures, plan_forgetting, recordings_of
from ingest.shards import SUMMARY, Shard, newest_shards, remove_leftovers
from ingest.site import SiteConfig
from ingest.workspace import Workspace, WorkspaceBusy
from models.bundle import BundleError, ModelStore


@dataclass(frozen=True)
class Outcome:
    """What an erasure came to, as far as its caller may know: what their cameras saw, and where these are not all
    cameras, only proofs of what they asked for themselves.

    Attributes:
        found: what goes by this selection, and with it of what goes anyway.
        proofs: of this erasure, and of earlier ones that had been interrupted; of an erasure that had been done before,
            that one's.
        waiting: for what the removal waits; what is erased is only hidden until then.
    """

    found: Forgotten
    proofs: list[Order] = field(default_factory=list)
    waiting: str | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing was found afterwards."""
        return all(proof.clean for proof in self.proofs)


def would_erase(site: SiteConfig, selection: Selection, caller: Caller) -> Forgotten:
    """What an erasure would take, as far as the caller may know. Changes nothing.

    Raises:
        NotFound: a tracklet is not there and never was erased.
        Conflict: an id may mean somebody else than the gallery shows.
    """
    workspace = Workspace(site)
    plan = _plan(workspace, selection, caller)
    _earlier(workspace, plan.found.missing)
    return plan.found


def erase(
    site: SiteConfig,
    selection: Selection,
    *,
    asked: dict[str, Any],
    caller: Caller,
    reason: str = "",
    threads: int | None = None,
    hide_if_busy: bool = True,
) -> Outcome:
    """Erase what is selected, and finish erasures that were interrupted.

    While another command works on the site (a training may for hours), what is selected is hidden from a running
    service and forbidden to every ingest. When that is done, the next erasure or a running service removes it.

    Args:
        site: whose workspace.
        selection: what.
        asked: the selection as it was written, for the proof.
        caller, reason: who asks, and why, for the proof and the audit log.
        threads: of the embedding session, should crops that stay have to be embedded again.
        hide_if_busy: see above; False: do nothing then.

    Raises:
        NotFound: a tracklet is not there and never was erased.
        Conflict: an id may mean somebody else than the gallery shows; nothing was done for it.
        WorkspaceBusy: another command works on the site, and nothing was done.
        ValueError, OSError: something cannot be read or written; run again, it goes on.
    """
    workspace = Workspace(site)
    gallery_database(workspace).exists()  # a server that is away says so here, before anything is begun
    try:
        with workspace.lock():
            remove_leftovers(workspace)
            orders = _remove(workspace, unfinished_orders(workspace))
            carry_erasures(workspace)
            plan, earlier, order = _begin(workspace, selection, asked, caller, reason)
            if order is not None:
                orders += _remove(workspace, [order])
    except WorkspaceBusy as busy:
        if not hide_if_busy:
            raise
        plan, earlier, order = _begin(workspace, selection, asked, caller, reason)
        add_erasures(workspace.erasures, plan.erasures)
        carry_erasures(workspace)  # the command at work may have published a longer state meanwhile
        orders = unfinished_orders(workspace)
        return Outcome(plan.found, _told(site, caller, [*earlier, *orders]), str(busy) if orders else None)
    if not orders:
        return Outcome(plan.found, _told(site, caller, earlier))
    try:
        remarks = _remove_from_gallery(site, workspace, threads)
        with workspace.gallery_lock():  # an index run merges files, and the search would miss those that it listed
            proofs = [_prove(workspace, order, caller, remarks) for order in orders]
    except WorkspaceBusy as busy:
        return Outcome(plan.found, _told(site, caller, [*earlier, *orders]), str(busy))
    return Outcome(plan.found, _told(site, caller, [*earlier, *proofs]))


def unfinished_orders(workspace: Workspace) -> list[Order]:
    """Erasures that were begun and not finished, or after which something was found."""
    return [order for order in read_orders(workspace) if not order.clean]


def verify(site: SiteConfig, proof: Order) -> Order:
    """Look again for what was erased; the proof as it would be now.

    Raises:
        WorkspaceBusy: the gallery is being written to.
    """
    workspace = Workspace(site)
    with workspace.gallery_lock():
        return replace(proof, searched=search_afterwards(workspace, proof))


def _plan(workspace: Workspace, selection: Selection, caller: Caller) -> Plan:
    """`plan_forgetting`, which also says what goes by orders that wait: of all that, what the caller's cameras saw."""
    plan = plan_forgetting(workspace, selection)
    _refuse_renumbered(workspace, selection, plan)
    losses = _of_their_cameras(workspace, plan, caller)
    tracklets = sorted({name for loss in losses for name in loss.tracklets})
    crops = sum(len(loss.crops) for loss in losses)
    return replace(plan, found=replace(plan.found, tracklets=tracklets, crops=crops))


def _refuse_renumbered(workspace: Workspace, selection: Selection, plan: Plan) -> None:
    """Refuse an id under which the gallery shows somebody else than the shards have: a recording that is ingested anew
    has its tracklets numbered anew, and whoever searched before the next index run means the one of before."""
    database = gallery_database(workspace)
    if not selection.tracklets or not database.exists():
        return
    repository = GalleryRepository(database.open())
    try:
        shown = repository.seen_by(None).tracklets(sorted(selection.tracklets)).values()
    finally:
        repository.close()
    meant = {ErasedTracklet(row.tracklet_id, row.start_pts_s, row.end_pts_s) for row in shown}
    # What an earlier erasure took from the shards may still have its row.
    known = {*_tracklets(plan.losses), *(gone for order in read_orders(workspace) for gone in order.tracklets)}
    renumbered = sorted(tracklet.tracklet_id for tracklet in meant - known)
    if renumbered:
        raise Conflict(
            f"{renumbered[0]}: its recording was ingested anew since the gallery was indexed, and the id may mean "
            f"somebody else now; run 'python -m gallery_service index {workspace.site.name}', then search again"
        )


def _of_their_cameras(workspace: Workspace, plan: Plan, caller: Caller) -> list[Loss]:
    return [loss for loss in plan.losses if caller.sees(workspace.site.name, loss.shard.camera_id)]


def _told(site: SiteConfig, caller: Caller, orders: list[Order]) -> list[Order]:
    """The orders that the caller may know of: all, or their own. One of another says who asked, and why."""
    whole_site = caller.cameras(site.name) is None
    return [order for order in orders if whole_site or order.by.partition(", ")[0] == caller.name]


def _begin(
    workspace: Workspace, selection: Selection, asked: dict[str, Any], caller: Caller, reason: str
) -> tuple[Plan, list[Order], Order | None]:
    """What the selection comes to, proofs of what of it was erased before, and the order, unless nothing is left."""
    plan = _plan(workspace, selection, caller)
    earlier = _earlier(workspace, plan.found.missing)
    hidden = {tracklet.tracklet_id for order in unfinished_orders(workspace) for tracklet in order.tracklets}
    if not plan.erasures and hidden.issuperset(plan.found.tracklets):
        return plan, earlier, None
    order = _order(workspace, plan, asked, caller, reason)
    write_order(workspace, order)
    _record(workspace, caller, "erasure.begun", order)
    _bury(workspace, plan)
    return plan, earlier, order


def _bury(workspace: Workspace, plan: Plan) -> None:
    """Take the rows away at once, and keep an index run that is reading these very shards from putting them back."""
    database = gallery_database(workspace)
    if not database.exists():
        return
    repository = GalleryRepository(database.open())
    try:
        repository.tombstone(
            (shard_name(loss.shard), tracklet_id) for loss in plan.losses for tracklet_id in sorted(loss.tracklets)
        )
    finally:
        repository.close()


def _bury_superseded(workspace: Workspace) -> None:
    """Take away the rows that no shard answers for any more: those of a recording which was ingested anew since it was
    indexed, where an erasure reaches into them. Their ids stand in no order, and where nothing can be embedded they
    would stay."""
    repository = GalleryRepository(gallery_database(workspace).open(), ErasedTracklets(workspace))
    try:
        erased = repository.erased_tracklets()
        if erased:
            repository.tombstone((shard, tracklet_id) for tracklet_id, shard in erased.items())
    finally:
        repository.close()


def _remove_from_gallery(site: SiteConfig, workspace: Workspace, threads: int | None) -> list[str]:
    """Take rows and vectors out; what a person should know besides, a sentence each."""
    database = gallery_database(workspace)
    if not database.exists():
        return []
    remarks = []
    _bury_superseded(workspace)
    try:
        live = ModelStore(workspace.models).current()
    except BundleError as error:
        # Nothing can be embedded, but to remove something takes no model.
        live, remarks = None, [f"the live model cannot be used, so the gallery was only compacted: {error}"]
    if live is not None:
        build_gallery(site, threads=threads, quiet=True)
    else:
        compact_gallery(site)
    try:
        database.scrub()
    finally:
        database.close()
    return remarks


def _remove(workspace: Workspace, orders: list[Order]) -> list[Order]:
    """Write down what the orders forbid, and make the shards obey; the orders, which say since when they do."""
    if not orders:
        return []
    lines = [erasure for order in orders for erasure in order.erasures]
    add_erasures(workspace.erasures, list(dict.fromkeys(not_yet_known(lines, load_erasures(workspace.erasures)))))
    obey_erasures(workspace)
    shards = newest_shards(workspace)
    return [_removed(workspace, order, shards) for order in orders]


def _removed(workspace: Workspace, order: Order, shards: list[Shard]) -> Order:
    """The order with the moment since which its recordings' shards obey, after what was made of them before is removed:
    an ingest may have made them obey while the order waited. What was made since then stays."""
    recordings = {*order.recordings, *grown_into(order, shards)}
    removed_at = order.removed_at or _obeyed_since([shard for shard in shards if shard.video_sha256 in recordings])
    remove_derived(workspace, recordings, datetime.fromisoformat(removed_at).timestamp())
    removed = replace(order, removed_at=removed_at)
    if removed != order:
        write_order(workspace, removed)
    return removed


def _obeyed_since(shards: list[Shard]) -> str:
    """When the last of these was written. By the clock that dates what is made of them, which is a little behind."""
    written = [(shard.path / SUMMARY).stat().st_mtime_ns // 1000 for shard in shards]
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=max(written))).isoformat() if written else now()


def _prove(workspace: Workspace, order: Order, caller: Caller, remarks: list[str]) -> Order:
    proof = replace(
        order,
        state="done",
        searched=search_afterwards(workspace, order),
        learned_from=models_that_learned(workspace, order),
        remarks=list(dict.fromkeys([*order.remarks, *remarks])),
    )
    # A crash in between has it recorded twice, which is better than not at all.
    _record(workspace, caller, "erasure.proven", proof)
    write_order(workspace, proof)
    return proof


def _record(workspace: Workspace, caller: Caller, action: str, order: Order) -> None:
    """In the audit log, where there is a gallery. It names no tracklet, but the proof, which does, by its hash."""
    database = gallery_database(workspace)
    if not database.exists():
        return
    repository = GalleryRepository(database.open())
    try:
        details = {
            "erasure_id": order.erasure_id,
            "by": order.by,
            "tracklets": len(order.tracklets),
            "crops": len(order.crops),
            "clean": order.clean,
            "sha256": order.as_json()["sha256"],
        }
        repository.record(caller, action, details, order.reason or None)
    finally:
        repository.close()


def _earlier(workspace: Workspace, missing: list[str]) -> list[Order]:
    """The proofs for tracklets that are not there because they were erased before."""
    if not missing:
        return []
    before = earlier_of(read_orders(workspace), missing)
    unknown = sorted(set(missing) - before.keys())
    if unknown:
        raise NotFound(f"there is no tracklet {unknown[0]!r}, and none was erased; is the id right?")
    orders = {order.erasure_id: order for order in before.values() if order.clean}
    return [orders[name] for name in sorted(orders)]


def _tracklets(losses: Iterable[Loss]) -> list[ErasedTracklet]:
    return [
        ErasedTracklet(row["tracklet_id"], row["start_pts_s"], row["end_pts_s"])
        for loss in losses
        for row in loss.shard.tracklets().select(["tracklet_id", "start_pts_s", "end_pts_s"]).to_pylist()
        if row["tracklet_id"] in loss.tracklets
    ]


def _order(workspace: Workspace, plan: Plan, asked: dict[str, Any], caller: Caller, reason: str) -> Order:
    losses = _of_their_cameras(workspace, plan, caller)
    crops = {
        hashlib.sha256(loss.shard.read_jpeg(row["offset"], row["length"])).hexdigest()
        for loss in losses
        for row in loss.shard.crops().to_pylist()
        if row["crop_id"] in loss.crops
    }
    return Order(
        erasure_id=new_id(),
        site=workspace.site.name,
        asked=asked,
        by=f"{caller.name}, {caller.via}" if caller.via else caller.name,
        reason=reason,
        asked_at=now(),
        tracklets=_tracklets(losses),
        crops=sorted(crops),
        recordings=sorted(recordings_of(losses) | {erasure.video_sha256 for erasure in plan.erasures}),
        lines=[erasure.to_json() for erasure in plan.erasures],
        remarks=[
            *(text for text in plan.found.remarks() if not text.startswith("not there")),
            *gallery_database(workspace).beyond_reach,
        ],
    )
