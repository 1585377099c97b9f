"""The pages: a list of sites, and one page per site to search it. Plain HTML; its script talks to the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.templating import Jinja2Templates

from gallery_service.access.rules import Investigator, Viewer
from gallery_service.endpoints import SeenSites, Site
from gallery_service.errors import GalleryError
from gallery_service.search import DEFAULT_TOP_K, MAX_TOP_K

FOLDER = Path(__file__).parent
templates = Jinja2Templates(FOLDER / "templates")
pages = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@pages.get("/")
def sites_page(request: Request, seen: SeenSites, caller: Viewer) -> Response:
    """The sites that can be searched."""
    summaries = [site.summary(caller) for site in seen.values()]
    return templates.TemplateResponse(request, "sites.html", {"sites": summaries})


@pages.get("/sites/{site}")
def site_page(request: Request, site: Site, caller: Investigator) -> Response:
    """Search one site."""
    try:
        info = site.info(caller)
    except GalleryError as error:
        problem = {"site": site.name, "problem": str(error)}
        return templates.TemplateResponse(request, "problem.html", problem, status_code=error.status)
    context: dict[str, Any] = {
        "info": info,
        "top_k": DEFAULT_TOP_K,
        "max_top_k": MAX_TOP_K,
        "max_mib": site.settings.max_upload_bytes / 1024 / 1024,
    }
    return templates.TemplateResponse(request, "site.html", context)
