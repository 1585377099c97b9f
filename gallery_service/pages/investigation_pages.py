"""Investigations: the list, one of them with its timeline and map, and deciding about hits while one searches."""

from __future__ import annotations

from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict

from gallery_service.access.rules import Investigator, Viewer
from gallery_service.caller import Caller
from gallery_service.errors import NotFound
from gallery_service.investigations import schemas
from gallery_service.investigations.endpoints import Cases, EditedCases
from gallery_service.investigations.service import Investigations
from gallery_service.pages.lanes import Sighting, draw_lanes
from gallery_service.pages.open_case import open_case, query_of
from gallery_service.pages.rendering import go_to, is_htmx, render
from gallery_service.pages.site_clock import SiteClock
from gallery_service.pages.site_plan import Plan, draw_plan
from gallery_service.search.site_info import describe_site
from gallery_service.search.site_search import SiteSearch
from gallery_service.web.endpoints import Site
from gallery_service.web.invalid_fields import LARGEST_NUMBER, checked

investigation_pages = APIRouter(prefix="/sites/{site}", default_response_class=HTMLResponse)


class DecisionForm(BaseModel):
    """A button of a hit, and where it stands. `investigation` is empty while none is open."""

    tracklet: str
    decision: schemas.Decision
    query_id: str = ""
    investigation: str = ""
    rank: int = 0


class NewCaseForm(BaseModel):
    """What an investigation begins with, and the decision that it was begun for, if any."""

    model_config = ConfigDict(extra="ignore")

    title: schemas.Title
    purpose: schemas.Purpose
    notes: schemas.Notes = ""
    tracklet: str = ""
    decision: schemas.Decision = "confirmed"
    query_id: str = ""
    rank: int = 0


@investigation_pages.get("/investigations")
def list_page(
    request: Request,
    site: Site,
    caller: Viewer,
    cases: Cases,
    status: Annotated[schemas.Status, Query()] = "open",
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """The caller's investigations, the newest first."""
    page = cases.page(status, cursor, 50)
    template = "investigations/rows.html" if is_htmx(request) and cursor else "investigations/list.html"
    return render(
        request, template, info=describe_site(site, caller), section="investigations", page=page, status_shown=status
    )


@investigation_pages.post("/investigations")
def begin(
    request: Request, site: Site, caller: Investigator, cases: EditedCases, form: Annotated[NewCaseForm, Form()]
) -> Response:
    """Begin one: from the list, or from a search with a first hit to keep."""
    new = schemas.NewInvestigation(title=form.title, purpose=form.purpose, notes=form.notes, investigation_id=None)
    begun, _ = cases.begin(new)
    if not form.tracklet:
        return go_to(request, f"/sites/{site.name}/investigations/{begun.investigation_id}")
    decision = DecisionForm(**form.model_dump(), investigation=begun.investigation_id)
    return _decide(request, site, caller, decision)


@investigation_pages.get("/investigations/{investigation_id}")
def case_page(request: Request, site: Site, caller: Viewer, cases: Cases, investigation_id: str) -> Response:
    """One investigation: where and when, on the time axis and on the map."""
    case = cases.get(investigation_id)
    info = describe_site(site, caller)
    timeline = cases.timeline(investigation_id)
    seen = [
        Sighting(one.camera_id, one.first_seen, one.last_seen or one.first_seen, f"#seen-{rank}", f"sighting {rank}")
        for rank, one in enumerate(timeline.sightings, 1)
        if one.first_seen
    ]
    return render(
        request,
        "investigations/page.html",
        info=info,
        section="investigations",
        case=case,
        timeline=timeline,
        lanes=draw_lanes(seen, [camera.camera_id for camera in info.cameras], SiteClock(info.timezone)),
        plan=_plan(site, timeline),
    )


def _plan(site: SiteSearch, timeline: schemas.Timeline) -> Plan | None:
    if timeline.map_url is None:
        return None
    try:
        picture = site.map.read(site.current_site())
    except NotFound:
        return None  # named in site.yaml, but not there: the table of cameras has to do
    with Image.open(BytesIO(picture.content)) as opened:
        return draw_plan(timeline, opened.size)


async def sent_fields(request: Request) -> dict[str, str]:
    """The fields of a form as they were sent; a parameter of FastAPI takes an empty one for one that was not."""
    async with request.form() as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


@investigation_pages.post("/investigations/{investigation_id}")
def change(
    request: Request,
    site: Site,
    cases: EditedCases,
    investigation_id: str,
    sent: Annotated[dict[str, str], Depends(sent_fields)],
) -> Response:
    """Rename, describe, share, close or open it; what is not sent stays."""
    fields: dict[str, Any] = {**sent}
    if "shared_with" in sent:
        fields["shared_with"] = sent["shared_with"].replace(",", " ").split()
    cases.change(investigation_id, checked(schemas.InvestigationChange, **fields))
    return go_to(request, f"/sites/{site.name}/investigations/{investigation_id}")


@investigation_pages.post("/investigations/{investigation_id}/delete")
def delete(request: Request, site: Site, cases: EditedCases, investigation_id: str) -> Response:
    """Delete it, with all it holds."""
    cases.remove(investigation_id)
    return go_to(request, f"/sites/{site.name}/investigations")


@investigation_pages.post("/investigations/{investigation_id}/hits")
def change_hit(
    request: Request,
    site: Site,
    cases: EditedCases,
    investigation_id: str,
    hit: Annotated[int, Form(ge=0, le=LARGEST_NUMBER)],
    tracklet: Annotated[str, Form()] = "",
    decision: Annotated[schemas.Decision | None, Form()] = None,
) -> Response:
    """Decide otherwise about a hit, or (without a decision) take out one that is gone; from the investigation's own
    page."""
    if decision is None:
        cases.remove_gone(investigation_id, hit)
    else:
        cases.decide_again(
            investigation_id, hit, tracklet, schemas.HitDecision(decision=decision, note=None, query_id=None)
        )
    return go_to(request, f"/sites/{site.name}/investigations/{investigation_id}")


@investigation_pages.get("/drawer")
def drawer(request: Request, site: Site, caller: Investigator, investigation: Annotated[str, Query()] = "") -> Response:
    """The investigation to go on with, beside the search."""
    case = open_case(site, caller, investigation)
    return render(request, "search/drawer.html", info=describe_site(site, caller), case=case)


@investigation_pages.post("/hits")
def decide(
    request: Request, site: Site, caller: Investigator, cases: EditedCases, form: Annotated[DecisionForm, Form()]
) -> Response:
    """Confirm or reject a hit of an answer; asks for an investigation to keep it in where none is open."""
    if not form.investigation:
        open_ones = cases.page("open", None, 12).investigations
        answer = render(request, "search/which_case.html", site=site.name, form=form, open_ones=open_ones)
        answer.headers["HX-Retarget"], answer.headers["HX-Reswap"] = "#which-case", "innerHTML"
        return answer
    return _decide(request, site, caller, form)


def _decide(request: Request, site: SiteSearch, caller: Caller, form: DecisionForm) -> Response:
    cases = Investigations(site, caller)
    investigation = cases.get(form.investigation)
    query_id = query_of(cases, investigation, form.query_id) if form.query_id else None
    cases.decide(
        form.investigation, form.tracklet, schemas.HitDecision(decision=form.decision, note=None, query_id=query_id)
    )
    case = open_case(site, caller, form.investigation)
    return render(request, "search/decided.html", info=describe_site(site, caller), case=case, form=form)
