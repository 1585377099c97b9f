"""The audit log for those who answer for a site: who did what, and whether the chain holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from gallery_service.access.rules import Admin
from gallery_service.audit.routes import read_audit
from gallery_service.errors import Forbidden
from gallery_service.pages.rendering import is_htmx, render
from gallery_service.pages.site_clock import SiteClock
from gallery_service.search.site_info import describe_site
from gallery_service.web.endpoints import Site

audit_pages = APIRouter(prefix="/sites/{site}/audit", default_response_class=HTMLResponse)
_PAGE = 50
_LONG = 24


@audit_pages.get("")
def audit_page(
    request: Request,
    site: Site,
    caller: Admin,
    who: Annotated[str, Query()] = "",
    action: Annotated[str, Query()] = "",
    since: Annotated[str, Query()] = "",
    until: Annotated[str, Query()] = "",
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """Entries, the newest first."""
    info = describe_site(site, caller)
    clock = SiteClock(info.timezone)
    page = read_audit(
        site,
        caller,
        who.strip() or None,
        action.strip() or None,
        clock.earliest(since, "From") if since else None,
        clock.latest(until, "To") if until else None,
        _PAGE,
        cursor,
    )
    template = "audit/rows.html" if is_htmx(request) and cursor else "audit/page.html"
    asked = {"who": who, "action": action, "since": since, "until": until}
    return render(request, template, info=info, section="admin", page=page, asked=asked, in_short=in_short)


def in_short(details: Mapping[str, Any]) -> str:
    """Details in one line: plain values as they are, of lists how many they hold."""
    parts = []
    for name, value in details.items():
        if isinstance(value, list):
            parts.append(f"{name.replace('_', ' ')} {len(value)}")
        elif value is not None and not isinstance(value, dict):
            text = str(value)
            parts.append(f"{name.replace('_', ' ')} {text if len(text) <= _LONG else f'{text[:_LONG]}…'}")
    return ", ".join(parts) or "–"


@audit_pages.get("/chain")
def chain(request: Request, site: Site, caller: Admin) -> Response:
    """Checks the whole log, from the first entry on."""
    if caller.cameras(site.name) is not None:
        raise Forbidden("the audit log is for admins who may see the whole site")
    return render(request, "audit/chain.html", verdict=site.audit.verify())
