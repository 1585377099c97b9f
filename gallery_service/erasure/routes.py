"""Erasure over the API, for admins."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from gallery_service.access.rules import Admin
from gallery_service.caller import Caller
from gallery_service.erasure.erase import erase, would_erase
from gallery_service.erasure.orders import Order, find_order, read_orders
from gallery_service.errors import BadQuery, Forbidden, GalleryError
from gallery_service.schemas import ErrorAnswer
from gallery_service.web.endpoints import Site
from ingest.erasure_selection import Selection, SelectionError, make_selection
from ingest.site import SiteConfig, SiteError
from ingest.workspace import Workspace

erasures = APIRouter(prefix="/api/v1/sites/{site}/erasures")

_ERRORS: dict[int | str, dict[str, Any]] = {
    403: {"model": ErrorAnswer, "description": "Only admins erase"},
    404: {"model": ErrorAnswer, "description": "No such site, tracklet or erasure"},
    409: {"model": ErrorAnswer, "description": "The gallery is to be indexed first: a recording was ingested anew"},
    422: {"model": ErrorAnswer, "description": "It is not clear what is to be erased"},
}


class ErasureRequest(BaseModel):
    """What to erase: tracklets, or a camera with a time or with all it saw."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"camera": "cam1", "since": "2026-03-01T08:00", "until": "2026-03-01T08:30", "dry_run": True}]
        },
    )

    tracklets: list[str] = Field(default_factory=list, max_length=1000, description="Ids, camera/video/number.")
    camera: str | None = None
    since: str | None = Field(None, description="ISO 8601; without an offset, in the site's timezone.")
    until: str | None = None
    everything: bool = Field(False, description="All that the camera saw, at unknown times too.")
    reason: str = Field("", max_length=500, description="Why, for the proof.")
    dry_run: bool = Field(False, description="Only say what would go.")


class ErasureSummary(BaseModel):
    """An erasure in one line."""

    erasure_id: str
    asked_at: str
    by: str
    reason: str
    tracklets: int
    crops: int
    state: str
    clean: bool = Field(description="It is done, and nothing of it was found afterwards.")


class ErasureAnswer(BaseModel):
    """What went, or would go."""

    dry_run: bool
    tracklets: list[str]
    crops: int
    remarks: list[str] = Field(description="What this erasure does not reach, a sentence each.")
    erasures: list[ErasureSummary] = Field(
        description="This one, and earlier ones that had been interrupted; who may not see every camera of the site is "
        "told of their own ones only."
    )


class ErasureList(BaseModel):
    """Erasures of a site, newest first."""

    erasures: list[ErasureSummary]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


@erasures.post("", summary="Erase people, for good", status_code=201, responses=_ERRORS)
def erase_people(site: Site, caller: Admin, wanted: ErasureRequest, response: Response) -> ErasureAnswer:
    """From crops, vectors, rows, reports and training runs, with a search for them afterwards as proof. They are gone
    from every answer at once; what is erased again is answered with the erasure that did it. 202: another command works
    on the site, and they are removed when it is done."""
    config = site.current_site()
    selection = _selection(config, caller, wanted)
    if wanted.dry_run:
        response.status_code = 200
        found, proofs = would_erase(config, selection, caller), []
    else:
        asked = {name: value for name, value in wanted.model_dump(exclude={"reason", "dry_run"}).items() if value}
        outcome = erase(config, selection, asked=asked, caller=caller, reason=wanted.reason)
        if outcome.waiting is not None:
            response.status_code = 202
        with suppress(GalleryError):
            site.refresh()  # what is erased leaves the memory, too
        found, proofs = outcome.found, outcome.proofs
    return ErasureAnswer(
        dry_run=wanted.dry_run,
        tracklets=found.tracklets,
        crops=found.crops,
        remarks=found.remarks(),
        erasures=[_summary(proof) for proof in proofs],
    )


@erasures.get("", summary="The erasures of a site", responses=_ERRORS)
def list_erasures(
    site: Site,
    caller: Admin,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> ErasureList:
    """Newest first, unfinished ones too."""
    config = site.current_site()
    _sees_all(config, caller)
    # Ids sort by time.
    older = [order for order in read_orders(Workspace(config)) if cursor is None or order.erasure_id < cursor]
    page = older[: -limit - 1 : -1]
    return ErasureList(
        erasures=[_summary(order) for order in page], next=page[-1].erasure_id if len(older) > limit else None
    )


@erasures.get("/{erasure_id}", summary="The proof of an erasure", responses=_ERRORS)
def read_erasure(site: Site, caller: Admin, erasure_id: str) -> dict[str, Any]:
    """As it lies in the workspace: what was asked, what went, and where it was looked for afterwards."""
    _sees_all(site.current_site(), caller)
    return find_order(Workspace(site.current_site()), erasure_id).as_json()


def _selection(config: SiteConfig, caller: Caller, wanted: ErasureRequest) -> Selection:
    # A camera that the caller may not see is none, as everywhere.
    seen = [camera for camera in config.cameras if caller.sees(config.name, camera.id)]
    narrowed = config.model_copy(update={"cameras": seen})
    try:
        if wanted.camera is not None and not caller.sees(config.name, wanted.camera):
            narrowed.camera(wanted.camera)
        selection = make_selection(
            narrowed,
            tracklets=wanted.tracklets,
            camera=wanted.camera,
            since=wanted.since,
            until=wanted.until,
            everything=wanted.everything,
        )
    except (SelectionError, SiteError) as error:
        raise BadQuery(str(error)) from None
    cameras = {name.partition("/")[0] for name in selection.tracklets} | set(selection.spans)
    if not all(caller.sees(config.name, camera) for camera in cameras):
        raise Forbidden("you may erase only what cameras saw that you may see")
    return selection


def _sees_all(config: SiteConfig, caller: Caller) -> None:
    if caller.cameras(config.name) is not None:
        raise Forbidden("a proof may name every camera of the site, of which you may see only some")


def _summary(order: Order) -> ErasureSummary:
    return ErasureSummary(
        erasure_id=order.erasure_id,
        asked_at=order.asked_at,
        by=order.by,
        reason=order.reason,
        tracklets=len(order.tracklets),
        crops=len(order.crops),
        state=order.state,
        clean=order.clean,
    )
