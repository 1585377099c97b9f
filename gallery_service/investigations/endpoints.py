"""The API of investigations: addresses, parameters and answers. What they do is in `service`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from gallery_service.access.rules import Investigator, Viewer
from gallery_service.investigations import schemas
from gallery_service.investigations.service import DEFAULT_PAGE, MAX_PAGE, Investigations
from gallery_service.schemas import SearchAnswer
from gallery_service.web.endpoints import Asked, Site, error_answers, measurements_of
from gallery_service.web.invalid_fields import LARGEST_NUMBER

investigations = APIRouter(prefix="/api/v1/sites/{site}/investigations", tags=["investigations"])

_CHUNK = 256 * 1024

_SEEN = error_answers(s404="No such site or investigation, or not one of yours", s409="The site has no gallery yet")
_CHANGED = _SEEN | error_answers(
    s403="Not yours to change", s409="The investigation is closed or full", s422="A parameter is wrong"
)


def seen_investigations(site: Site, caller: Viewer) -> Investigations:
    """The caller's investigations at the site of the address, to look at."""
    return Investigations(site, caller)


def edited_investigations(site: Site, caller: Investigator) -> Investigations:
    """The same, to change them."""
    return Investigations(site, caller)


Number = Annotated[int, Path(ge=0, le=LARGEST_NUMBER)]
Cases = Annotated[Investigations, Depends(seen_investigations)]
EditedCases = Annotated[Investigations, Depends(edited_investigations)]


@investigations.get("", summary="Investigations, the newest first", responses=_SEEN)
def list_investigations(
    cases: Cases,
    status: Annotated[schemas.Status | None, Query(description="Only these.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE,
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> schemas.InvestigationPage:
    """Your own, those shared with you, and for an admin all of them."""
    return cases.page(status, cursor, limit)


@investigations.post(
    "",
    summary="Begin an investigation",
    status_code=201,
    responses=_CHANGED
    | {200: {"model": schemas.Investigation, "description": "It was there already, and stays as it is"}},
)
def begin_investigation(new: schemas.NewInvestigation, cases: EditedCases, response: Response) -> schemas.Investigation:
    """With an `investigation_id` of yours that is there already: that one as it is, and 200."""
    begun, added = cases.begin(new)
    response.status_code = 201 if added else 200
    return begun


@investigations.get("/{investigation_id}", summary="An investigation", responses=_SEEN)
def get_investigation(investigation_id: str, cases: Cases) -> schemas.Investigation:
    """With its queries and hits, as far as you may see their cameras."""
    return cases.get(investigation_id)


@investigations.patch(
    "/{investigation_id}",
    summary="Rename, describe, share, close or open",
    responses=_CHANGED | error_answers(s409="Somebody changed it since the revision that was sent"),
)
def change_investigation(
    investigation_id: str, change: schemas.InvestigationChange, cases: EditedCases
) -> schemas.Investigation:
    """What is left out stays as it is. Only whoever began it, and admins."""
    return cases.change(investigation_id, change)


@investigations.delete("/{investigation_id}", summary="Delete an investigation", status_code=204, responses=_CHANGED)
def delete_investigation(investigation_id: str, cases: EditedCases) -> None:
    """With its queries, kept pictures and hits. Only whoever began it, and admins."""
    cases.remove(investigation_id)


@investigations.post("/{investigation_id}/search", summary="Search with what was confirmed", responses=_CHANGED)
def search_refined(
    investigation_id: str, asked: Asked, cases: EditedCases, site: Site, request: Request
) -> SearchAnswer:
    """The refined query: what was searched for and confirmed so far, away from what was rejected. Neither confirmed nor
    rejected tracklets are in the answer."""
    answer = cases.search_refined(investigation_id, asked)
    measurements_of(request).searches.labels(site.name, "refined").inc()
    return answer


@investigations.post(
    "/{investigation_id}/queries", summary="Add a search made in the last hour", status_code=201, responses=_CHANGED
)
def keep_query(investigation_id: str, query: schemas.QueryToKeep, cases: EditedCases) -> schemas.KeptQuery:
    """So that one can search first and begin an investigation when something is found."""
    return cases.keep_query(investigation_id, query.query_id)


@investigations.delete(
    "/{investigation_id}/queries/{query_id}", summary="Remove a query", status_code=204, responses=_CHANGED
)
def delete_query(investigation_id: str, query_id: str, cases: EditedCases) -> None:
    """With its pictures; hits that it found stay."""
    cases.remove_query(investigation_id, query_id)


@investigations.get(
    "/{investigation_id}/queries/{query_id}/images/{number}",
    summary="A kept query picture",
    response_class=Response,
    responses=_SEEN | {200: {"content": {"image/jpeg": {}}}},
)
def query_picture(investigation_id: str, query_id: str, number: Number, cases: Cases) -> Response:
    """A JPEG. Query pictures are kept only where that was asked for."""
    return Response(cases.picture(investigation_id, query_id, number), media_type="image/jpeg")


@investigations.put(
    "/{investigation_id}/hits/{tracklet_id:path}", summary="Confirm or reject a tracklet", responses=_CHANGED
)
def put_hit(investigation_id: str, tracklet_id: str, decision: schemas.HitDecision, cases: EditedCases) -> schemas.Hit:
    """For the first time or again."""
    return cases.decide(investigation_id, tracklet_id, decision)


@investigations.delete(
    "/{investigation_id}/hits/{tracklet_id:path}", summary="Take a hit out", status_code=204, responses=_CHANGED
)
def delete_hit(investigation_id: str, tracklet_id: str, cases: EditedCases) -> None:
    """As if nobody had decided about it. An id that was given again means the tracklet that has it now; the hit of the
    one before is missing, and is taken out as an erased one."""
    cases.remove_tracklet(investigation_id, tracklet_id)


@investigations.delete(
    "/{investigation_id}/erased-hits/{hit_id}",
    summary="Take out a hit that is missing or erased",
    status_code=204,
    responses=_CHANGED,
)
def delete_erased_hit(investigation_id: str, hit_id: Number, cases: EditedCases) -> None:
    """It has no tracklet to be named by, or one whose id was given to another since."""
    cases.remove_gone(investigation_id, hit_id)


@investigations.get(
    "/{investigation_id}/export",
    summary="An investigation as a file",
    response_class=StreamingResponse,
    responses=_SEEN | {200: {"content": {"application/zip": {}}}},
)
def export(investigation_id: str, cases: EditedCases) -> StreamingResponse:
    """A zip of report.html, investigation.json and the crops of hits that were not rejected. It is recorded."""
    file = cases.export(investigation_id)
    headers = {"Content-Disposition": f'attachment; filename="investigation-{investigation_id}.zip"'}
    chunks = iter(lambda: file.read(_CHUNK), b"")
    return StreamingResponse(
        chunks, media_type="application/zip", headers=headers, background=BackgroundTask(file.close)
    )


@investigations.get("/{investigation_id}/timeline", summary="Where and when", responses=_SEEN)
def timeline(investigation_id: str, cases: Cases) -> schemas.Timeline:
    """The confirmed hits in the order of time, and the cameras on the map."""
    return cases.timeline(investigation_id)
