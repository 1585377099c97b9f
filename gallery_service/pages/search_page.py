"""The list of sites, the page that searches one, and its answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from gallery_service.access.rules import Investigator, Viewer
from gallery_service.caller import Caller
from gallery_service.pages.filter_form import MAX_ON_A_PAGE, Fields, FilterForm
from gallery_service.pages.lanes import Sighting, draw_lanes
from gallery_service.pages.open_case import OpenCase, open_case
from gallery_service.pages.question import Question
from gallery_service.pages.rendering import is_htmx, render
from gallery_service.pages.site_clock import SiteClock
from gallery_service.schemas import Match, SiteInfo
from gallery_service.search.query_pictures import MAX_PICTURES, QueryPicture, parse_boxes
from gallery_service.search.site_info import describe_site, summarise_site
from gallery_service.search.site_search import SiteSearch
from gallery_service.web.endpoints import SeenSites, Site, measurements_of
from gallery_service.web.upload import uploaded_form

search_pages = APIRouter(default_response_class=HTMLResponse)


@search_pages.get("/")
def sites_page(request: Request, seen: SeenSites, caller: Viewer) -> Response:
    """The sites that can be searched."""
    summaries = [summarise_site(site, caller) for site in seen.values()]
    return render(request, "sites.html", sites=summaries)


@search_pages.get("/sites/{site}")
def search_page(
    request: Request, site: Site, caller: Investigator, investigation: Annotated[str, Query()] = ""
) -> Response:
    """Search one site, perhaps for an investigation."""
    info = describe_site(site, caller)
    filters = FilterForm.empty([camera.camera_id for camera in info.cameras])
    return _render(request, site, info, filters, open_case(site, caller, investigation))


@search_pages.post("/sites/{site}/search")
async def search(request: Request, site: Site, caller: Investigator) -> Response:
    """The answer to what the form asks: by pictures, by a tracklet of the gallery, or by all that was confirmed."""
    images, fields = await uploaded_form(request)
    return await run_in_threadpool(_search, request, site, caller, images, fields)


def _search(request: Request, site: SiteSearch, caller: Caller, images: list[bytes], fields: Fields) -> Response:
    info = describe_site(site, caller)
    clock = SiteClock(info.timezone)
    filters = FilterForm.read(fields, [camera.camera_id for camera in info.cameras])
    last = dict(fields)
    if "without" in last:
        filters = filters.without(last["without"])
    question = Question(
        pictures=[
            QueryPicture(*one)
            for one in zip(images, parse_boxes([v for name, v in fields if name == "box"], len(images)), strict=True)
        ],
        tracklet_id=last.get("tracklet") or None,
        refined="refined" in last,
        investigation=last.get("investigation") or None,
        keep_pictures="keep_image" in last,
    )
    answer = question.ask(site, caller, filters.request(clock))
    measurements_of(request).searches.labels(site.name, question.kind).inc()
    shown = [_sighting(rank, match) for rank, match in enumerate(answer.matches, 1) if match.first_seen]
    return _render(
        request,
        site,
        info,
        filters,
        open_case(site, caller, question.investigation),
        filters_changed="without" in last,
        answer=answer,
        question=question,
        chips=filters.chips(clock),
        lanes=draw_lanes(shown, [camera.camera_id for camera in info.cameras], clock),
    )


def _sighting(rank: int, match: Match) -> Sighting:
    assert match.first_seen is not None
    likeness = match.score if match.probability is None else match.probability
    return Sighting(
        camera_id=match.camera_id,
        first_seen=match.first_seen,
        last_seen=match.last_seen or match.first_seen,
        href=f"#hit-{rank}",
        label=f"match {rank}",
        weight=max(0.0, min(1.0, likeness)),
    )


def _render(
    request: Request, site: SiteSearch, info: SiteInfo, filters: FilterForm, case: OpenCase, **context: Any
) -> Response:
    template = "search/answer_part.html" if is_htmx(request) and "answer" in context else "search/page.html"
    return render(
        request,
        template,
        info=info,
        site=site.name,
        section="search",
        filters=filters,
        case=case,
        max_top_k=MAX_ON_A_PAGE,
        max_pictures=MAX_PICTURES,
        max_mib=site.settings.max_upload_bytes / 1024 / 1024,
        **context,
    )
