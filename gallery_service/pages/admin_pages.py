"""For those who run a site: its cameras, models, jobs and erasures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from gallery_service.access.rules import Admin
from gallery_service.caller import Caller
from gallery_service.erasure.routes import ErasureRequest, erase_people, list_erasures
from gallery_service.errors import Conflict, Forbidden, NotFound
from gallery_service.jobs import site_jobs
from gallery_service.pages.model_cards import model_cards
from gallery_service.pages.rendering import go_to, render
from gallery_service.pages.site_clock import SiteClock
from gallery_service.pictures.training_reports import CONTENT_SECURITY_POLICY
from gallery_service.search.site_info import describe_site
from gallery_service.web.endpoints import Site
from gallery_service.web.invalid_fields import checked
from ingest.workspace import Workspace
from models.bundle import BundleError, LiveVersionError, ModelStore

admin_pages = APIRouter(prefix="/sites/{site}/admin", default_response_class=HTMLResponse)


def whole_site(site: Site, caller: Admin) -> Caller:
    """The caller, who may see every camera of the site: models, jobs and erasures are not of one camera.

    Raises:
        Forbidden: only some of them.
    """
    if caller.cameras(site.name) is not None:
        raise Forbidden("this is about the whole site, of which you may see only some cameras")
    return caller


WholeSite = Annotated[Caller, Depends(whole_site)]


@admin_pages.get("/cameras")
def cameras_page(request: Request, site: Site, caller: Admin) -> Response:
    """What each camera holds, and how site.yaml has it."""
    config = site.current_site()
    written = {camera.id: camera for camera in config.cameras}
    return render(
        request, "admin/cameras.html", info=describe_site(site, caller), section="admin", config=config, written=written
    )


@admin_pages.get("/models")
def models_page(request: Request, site: Site, caller: WholeSite) -> Response:
    """The models of the site, the newest first, with what was measured of them."""
    info = describe_site(site, caller)
    cards = model_cards(Workspace(site.current_site()), info.model_version)
    return render(request, "admin/models.html", info=info, section="admin", cards=cards)


@admin_pages.get("/models/{version}/report")
def training_report(site: Site, caller: WholeSite, version: str) -> Response:
    """The report of the run that a model came from. It shows crops, so that it was looked at is recorded."""
    store = ModelStore(Workspace(site.current_site()).models)
    if version not in store.list():
        raise NotFound(f"site '{site.name}' has no model {version[:100]!r}")
    try:
        run_id = store.load(version).training_run
    except BundleError as error:
        raise Conflict(str(error)) from None
    page = site.pictures.training_report(caller, version, run_id)
    return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


@admin_pages.post("/models/rollback")
def roll_back(request: Request, site: Site, caller: WholeSite, version: Annotated[str, Form()]) -> Response:
    """Let the model before this one answer again; `version` names it, so that pressing twice does not go back twice."""

    def record(live: str, previous: str) -> None:
        site.record(caller, "model.rolled_back", {"from": live, "to": previous})

    try:
        ModelStore(Workspace(site.current_site()).models).rollback(to=version, record=record)
    except LiveVersionError:
        raise Conflict("another model has gone live meanwhile; look again") from None
    except BundleError as error:
        raise Conflict(str(error)) from None
    return go_to(request, f"/sites/{site.name}/admin/models")


@admin_pages.get("/jobs")
def jobs_page(request: Request, site: Site, caller: WholeSite) -> Response:
    """What is being done now, and what each stage last did."""
    jobs = site_jobs(Workspace(site.current_site()))
    return render(request, "admin/jobs.html", info=describe_site(site, caller), section="admin", jobs=jobs)


@admin_pages.get("/erasures")
def erasures_page(request: Request, site: Site, caller: WholeSite) -> Response:
    """What was erased, and a form to erase."""
    erasures = list_erasures(site, caller).erasures
    return render(request, "admin/erasures.html", info=describe_site(site, caller), section="admin", erasures=erasures)


@admin_pages.post("/erasures")
def erase(
    request: Request,
    site: Site,
    caller: WholeSite,
    camera: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "",
    until: Annotated[str, Form()] = "",
    tracklets: Annotated[str, Form()] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """First what would go; once that is confirmed, it goes."""
    info = describe_site(site, caller)
    clock = SiteClock(info.timezone)
    wanted = checked(
        ErasureRequest,
        tracklets=tracklets.split(),
        camera=camera or None,
        since=clock.earliest(since, "From") if since else None,
        until=clock.latest(until, "To") if until else None,
        everything=bool(camera) and not since and not until,
        reason=reason,
        dry_run=not confirmed,
    )
    answer = erase_people(site, caller, wanted, Response())
    if confirmed:
        return go_to(request, f"/sites/{site.name}/admin/erasures")
    fields = {"camera": camera, "since": since, "until": until, "tracklets": tracklets, "reason": reason}
    return render(request, "admin/erase_check.html", info=info, answer=answer, fields=fields)
