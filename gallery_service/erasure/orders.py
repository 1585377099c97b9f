"""Erasures as they are kept: `erasures/<id>.json` in the workspace, first as an order, in the end as a proof.

An order is written before anything is removed and says everything that finishing it needs. So whatever crashes, the
next erasure (or the retention of a running service) finds the order and goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gallery_service.errors import GalleryError, NotFound
from ingest.erasures import Erasure
from ingest.shards import Shard
from ingest.workspace import Workspace
from models.atomic import make_folder, write_json

_ID = re.compile(r"e-\d{8}T\d{6}-[0-9a-f]{8}")


@dataclass(frozen=True)
class ErasedTracklet:
    """A tracklet as it was. The id alone is not enough: a recording that is ingested anew gives ids again."""

    tracklet_id: str
    start_pts_s: float
    end_pts_s: float


@dataclass(frozen=True)
class Place:
    """Where it was looked for what was erased.

    Attributes:
        place: what was looked through.
        looked_at: how many things there.
        found: what of the erased is (still) there; empty as it should be.
    """

    place: str
    looked_at: int
    found: list[str]


@dataclass(frozen=True)
class Order:
    """An erasure.

    Attributes:
        asked: the selection as it was written.
        by, reason: who asked for it, and why.
        tracklets, crops: what goes: tracklets, and the SHA-256 of every crop's JPEG.
        recordings: SHA-256 of those it was in.
        lines: of `erasures.jsonl`, which keep it from coming back.
        state: "done" once it was searched for afterwards.
        removed_at: since when the shards obey, None before; what was made of them since then shows nobody who was
            erased.
        searched: what was found afterwards, place by place.
        learned_from: models and training runs that have seen what was erased, and cannot unlearn it.
        remarks: what the order could not reach.
    """

    erasure_id: str
    site: str
    asked: dict[str, Any]
    by: str
    reason: str
    asked_at: str
    tracklets: list[ErasedTracklet]
    crops: list[str]
    recordings: list[str]
    lines: list[dict[str, Any]]
    state: Literal["begun", "done"] = "begun"
    removed_at: str | None = None
    searched: list[Place] = field(default_factory=list)
    learned_from: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def erasures(self) -> list[Erasure]:
        """The lines as erasures."""
        return [Erasure.from_json(line) for line in self.lines]

    @property
    def clean(self) -> bool:
        """Whether nothing was found afterwards."""
        return self.state == "done" and not any(place.found for place in self.searched)

    def as_json(self) -> dict[str, Any]:
        """The file's content: `sha256` is that of all the rest, as JSON with sorted keys and no spaces."""
        content = {"schema": 1, **asdict(self)}
        return {**content, "sha256": _digest(content)}


def grown_into(order: Order, shards: Iterable[Shard]) -> set[str]:
    """The longer states of an order's recordings, of which it need not know: they may have come while it waited."""
    return {shard.video_sha256 for shard in shards if not set(order.recordings).isdisjoint(shard.replaces)}


def new_id() -> str:
    """An id that sorts by time."""
    return f"e-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def now() -> str:
    """This moment, RFC 3339."""
    return datetime.now(UTC).isoformat()


def orders_folder(workspace: Workspace) -> Path:
    """Where they lie."""
    return workspace.root / "erasures"


def write_order(workspace: Workspace, order: Order) -> Path:
    """Write an order or a proof, whole or not at all."""
    folder = orders_folder(workspace)
    make_folder(folder)
    path = folder / f"{order.erasure_id}.json"
    write_json(path, order.as_json())
    return path


def read_orders(workspace: Workspace) -> list[Order]:
    """All of a workspace, oldest first.

    Raises:
        GalleryError: one cannot be read or was changed.
    """
    folder = orders_folder(workspace)
    return [read_order(path) for path in sorted(folder.glob("e-*.json"))] if folder.is_dir() else []


def find_order(workspace: Workspace, erasure_id: str) -> Order:
    """The order or proof of that id.

    Raises:
        NotFound: there is none.
        GalleryError: it cannot be read or was changed.
    """
    path = orders_folder(workspace) / f"{erasure_id}.json"
    if not _ID.fullmatch(erasure_id) or not path.is_file():
        raise NotFound(f"there is no erasure {erasure_id[:60]!r}")
    return read_order(path)


def read_order(path: Path) -> Order:
    """Read an order or a proof.

    Raises:
        GalleryError: it cannot be read, or was changed since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sha256 = content.pop("sha256")
        if content.pop("schema") != 1:
            raise ValueError("unknown schema")
        order = Order(**content)
        tracklets = [ErasedTracklet(**tracklet) for tracklet in content["tracklets"]]
        order = replace(order, tracklets=tracklets, searched=[Place(**place) for place in content["searched"]])
        _ = order.erasures
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GalleryError(f"{path}: not an erasure ({type(error).__name__}: {error}); restore it") from None
    if sha256 != _digest({"schema": 1, **asdict(order)}):
        raise GalleryError(f"{path}: was changed since it was written: its sha256 does not match; restore it")
    return order


def earlier_of(orders: Iterable[Order], tracklet_ids: Iterable[str]) -> dict[str, Order]:
    """By which order each of these tracklets was erased, for those that were."""
    wanted = set(tracklet_ids)
    return {
        tracklet.tracklet_id: order
        for order in orders
        for tracklet in order.tracklets
        if tracklet.tracklet_id in wanted
    }


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
