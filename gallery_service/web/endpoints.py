"""The API: addresses, parameters and answers. What they do is in `gallery_service.search.site_search`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gallery_service.access.rules import Admin, Investigator, Viewer
from gallery_service.caller import Caller, caller_of
from gallery_service.errors import BadQuery, GalleryError, NotFound
from gallery_service.investigations.service import Investigations
from gallery_service.pictures.clip_queue import ClipQueue
from gallery_service.schemas import ErrorAnswer, Health, PersonBoxes, SearchAnswer, SiteInfo, SiteList
from gallery_service.search.query_pictures import QueryPicture, parse_boxes
from gallery_service.search.site_info import describe_site, summarise_site
from gallery_service.search.site_search import DEFAULT_TOP_K, MAX_PURPOSE, MAX_TOP_K, SearchRequest, SiteSearch
from gallery_service.web.byte_range import RangeNotSatisfiable, parse_range
from gallery_service.web.measurements import Measurements
from gallery_service.web.problem_details import ProblemAnswer
from gallery_service.web.upload import OPENAPI_BODY, uploaded_images

router = APIRouter()
api = APIRouter(prefix="/api/v1")

Responses = dict[int | str, dict[str, Any]]


def error_answers(**meanings: str) -> Responses:
    """What an address may answer when something is wrong: `s404=\"No such site\"` and so on."""
    return {int(code[1:]): {"model": ErrorAnswer, "description": text} for code, text in meanings.items()}


_SITE_ERRORS = error_answers(
    s404="No such site or tracklet", s409="The site has no gallery yet; the answer names the command to run"
)
_SEARCH_ERRORS = _SITE_ERRORS | error_answers(s403="From another site's page", s422="A parameter is wrong")
_UPLOAD_ERRORS = _SEARCH_ERRORS | error_answers(
    s408="The body took too long", s413="The body is too large", s415="Not a multipart body with an image"
)


def sites_of(request: Request) -> dict[str, SiteSearch]:
    """The served sites by name."""
    sites: dict[str, SiteSearch] = request.app.state.sites
    return sites


def measurements_of(request: Request) -> Measurements:
    """The service's metrics."""
    measurements: Measurements = request.app.state.measurements
    return measurements


def clip_queue_of(request: Request) -> ClipQueue:
    """Where clips are cut."""
    queue: ClipQueue = request.app.state.clip_queue
    return queue


def seen_sites(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, SiteSearch]:
    """The served sites of which the caller may see any camera, by name."""
    return {name: site for name, site in sorted(sites_of(request).items()) if caller.sees_site(name)}


SeenSites = Annotated[dict[str, SiteSearch], Depends(seen_sites)]


def served_site(site: str, seen: SeenSites) -> SiteSearch:
    """The site of the address.

    Raises:
        NotFound: it is not served, or the caller may see none of its cameras: the same error.
    """
    found = seen.get(site)
    if found is None:
        raise NotFound(f"site {site[:60]!r} is not served here; served are: {', '.join(seen) or 'none'}")
    return found


def search_request(
    top_k: Annotated[int, Query(ge=1, le=MAX_TOP_K, description="At most this many matches.")] = DEFAULT_TOP_K,
    cameras: Annotated[
        list[str] | None, Query(description="Only these cameras; repeat, or separate with commas.")
    ] = None,
    exclude_cameras: Annotated[list[str] | None, Query(description="Not these cameras.")] = None,
    since: Annotated[
        str | None, Query(description="RFC 3339 with offset. A tracklet whose time is unknown is never found.")
    ] = None,
    until: Annotated[str | None, Query(description="RFC 3339 with offset.")] = None,
    rerank: Annotated[
        bool, Query(description="Order the best candidates by k-reciprocal re-ranking; the score stays the cosine.")
    ] = False,
    purpose: Annotated[
        str | None, Query(max_length=MAX_PURPOSE, description="Why you search; kept in the record of searches.")
    ] = None,
    min_quality: Annotated[
        float | None,
        Query(ge=0, le=1, description="Only tracklets whose best crop is at least that good: large, sharp, whole."),
    ] = None,
    investigation: Annotated[
        str | None, Query(description="Keep this search, without its images, as a query of that investigation.")
    ] = None,
) -> SearchRequest:
    """The query parameters of a search."""
    return SearchRequest(
        top_k=top_k,
        cameras=cameras or (),
        exclude_cameras=exclude_cameras or (),
        since=since,
        until=until,
        rerank=rerank,
        purpose=purpose,
        min_quality=min_quality,
        investigation=investigation,
    )


Site = Annotated[SiteSearch, Depends(served_site)]
Asked = Annotated[SearchRequest, Depends(search_request)]


Boxes = Annotated[
    list[str],
    Query(
        alias="box",
        description="x1,y1,x2,y2: only this part of the image, in fractions of it. One for each image, or none.",
        default_factory=list,
    ),
]


@api.get("/sites", summary="The served sites")
def list_sites(seen: SeenSites, caller: Viewer) -> SiteList:
    """All sites this service was started with, as far as you may see them."""
    return SiteList(sites=[summarise_site(site, caller) for site in seen.values()])


@api.get("/sites/{site}", summary="What can be searched at a site", responses=_SITE_ERRORS)
def site_info(site: Site, caller: Viewer) -> SiteInfo:
    """Cameras, counts, time range and model version."""
    return describe_site(site, caller)


@api.post("/sites/{site}/search", summary="Search by crops", responses=_UPLOAD_ERRORS, openapi_extra=OPENAPI_BODY)
async def search_by_image(
    site: Site,
    asked: Asked,
    boxes: Boxes,
    caller: Investigator,
    request: Request,
    keep_image: Annotated[
        bool, Query(description="With `investigation`: keep the images in it, as far as they were looked at.")
    ] = False,
) -> SearchAnswer:
    """The tracklets that look most like the person in the images, best first. All images show the same person."""
    if keep_image and asked.investigation is None:
        raise BadQuery("keep_image: query images are only kept in an investigation; name it in 'investigation'")
    images = await uploaded_images(request)
    pictures = [QueryPicture(*one) for one in zip(images, parse_boxes(boxes, len(images)), strict=True)]

    def search() -> SearchAnswer:
        if asked.investigation is None:
            return site.search_pictures(caller, pictures, asked)
        return Investigations(site, caller).search_pictures(asked.investigation, pictures, asked, keep_image)

    answer = await run_in_threadpool(search)
    measurements_of(request).searches.labels(site.name, "image").inc()
    return answer


@api.post(
    "/sites/{site}/detections",
    summary="The people in a frame",
    responses=_UPLOAD_ERRORS
    | error_answers(s409="The site has no detector for single pictures", s503="Too many frames are waiting"),
    openapi_extra=OPENAPI_BODY,
)
async def detect_people(site: Site, caller: Investigator, request: Request) -> PersonBoxes:
    """Boxes to choose one from for a search, as the site's own detector sees them."""
    (frame,) = await uploaded_images(request, most=1)
    return await run_in_threadpool(site.propose_boxes, frame)


@api.get(
    "/sites/{site}/map",
    summary="A picture of the place",
    response_class=Response,
    responses=error_answers(s404="No such site, or it has no map")
    | {200: {"content": {"image/png": {}, "image/jpeg": {}}}},
)
def map_picture(site: Site, caller: Viewer) -> Response:
    """What the cameras' positions are fractions of."""
    picture = site.map.read(site.current_site())
    return Response(picture.content, media_type=picture.media_type)


@api.post("/sites/{site}/tracklets/{tracklet_id:path}/search", summary="Search by a tracklet", responses=_SEARCH_ERRORS)
def search_by_tracklet(
    site: Site, tracklet_id: str, asked: Asked, caller: Investigator, request: Request
) -> SearchAnswer:
    """The tracklets that look most like this one, which itself is left out."""
    if asked.investigation is None:
        answer = site.search_tracklet(caller, tracklet_id, asked)
    else:
        answer = Investigations(site, caller).search_tracklet(asked.investigation, tracklet_id, asked)
    measurements_of(request).searches.labels(site.name, "tracklet").inc()
    return answer


@api.get(
    "/sites/{site}/tracklets/{tracklet_id:path}/crop",
    summary="A tracklet's best crop",
    response_class=Response,
    responses=error_answers(s404="No such site, tracklet or crop") | {200: {"content": {"image/jpeg": {}}}},
)
def crop(
    site: Site,
    tracklet_id: str,
    caller: Viewer,
    opened: Annotated[bool, Query(description="It is opened to be looked at, which is recorded.")] = False,
) -> Response:
    """A JPEG."""
    return Response(site.pictures.crop(caller, tracklet_id, opened), media_type="image/jpeg")


@api.get(
    "/sites/{site}/tracklets/{tracklet_id:path}/clip",
    summary="A clip of the recording round a tracklet",
    response_class=Response,
    responses=error_answers(
        s404="Clips are off, or there is no such tracklet or recording",
        s416="Behind the end",
        s503="Too many clips are being cut; Retry-After says when to come again",
    )
    | {200: {"content": {"video/mp4": {}}}, 206: {"content": {"video/mp4": {}}}},
)
async def clip(
    site: Site, tracklet_id: str, caller: Viewer, request: Request, range: Annotated[str | None, Header()] = None
) -> Response:
    """An MP4, H.264, with the camera's mask applied and erased people blacked out; spans of it by the Range header."""
    wanted = await run_in_threadpool(site.pictures.wanted_clip, caller, tracklet_id)
    content = wanted.ready or await clip_queue_of(request).cut(wanted.cut)
    headers = {"Accept-Ranges": "bytes"}
    try:
        span = parse_range(range, len(content))
    except RangeNotSatisfiable:
        headers["Content-Range"] = f"bytes */{len(content)}"
        return ProblemAnswer(416, f"the clip has {len(content)} bytes", headers)
    if span is None:
        return Response(content, media_type="video/mp4", headers=headers)
    headers["Content-Range"] = f"bytes {span[0]}-{span[1]}/{len(content)}"
    return Response(content[span[0] : span[1] + 1], 206, headers, "video/mp4")


@router.get("/healthz", summary="Is the process alive")
async def healthz() -> Health:
    """Always ok while it can answer; it waits for no worker thread."""
    return Health(status="ok")


@router.get("/readyz", summary="Can every site be searched", responses={503: {"model": Health}})
def readyz(request: Request, response: Response) -> Health:
    """503 while a site cannot be searched; which one, what to do and what it runs on is for those who may see it."""
    caller: Caller | None = request.state.caller
    states, providers, models, tracklets = {}, {}, {}, {}
    for name, site in sorted(sites_of(request).items()):
        try:
            gallery = site.refresh()
            providers[name], models[name] = gallery.embedder.provider, gallery.bundle.version
            tracklets[name] = len(gallery.index)
            states[name] = "ready"
        except GalleryError as error:
            states[name] = error.told
    ready = all(state == "ready" for state in states.values())
    response.status_code = 200 if ready else 503
    status = "ready" if ready else "not ready"
    if caller is None:
        return Health(status=status)
    told: dict[str, Mapping[str, object]] = {
        "sites": states, "providers": providers, "models": models, "tracklets": tracklets
    }  # fmt: skip
    seen = {
        kind: {name: value for name, value in of_sites.items() if caller.sees_site(name)}
        for kind, of_sites in told.items()
    }
    return Health.model_validate({"status": status, **seen})


@router.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
def metrics(caller: Admin, request: Request) -> Response:
    """The text format of Prometheus."""
    measurements = measurements_of(request)
    measurements.clips.set(clip_queue_of(request).inside)
    measurements.model.clear()
    for name, site in sites_of(request).items():
        measurements.tracklets.labels(name).set(site.searchable_tracklets)
        measurements.waiting.labels(name).set(site.waiting)
        measurements.recall.labels(name).set(site.recall())
        if site.answering is not None:
            measurements.model.labels(name, *site.answering).set(1)
    return Response(generate_latest(measurements.registry), media_type=CONTENT_TYPE_LATEST)
