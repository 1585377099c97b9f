"""The audit log over the API, for admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from gallery_service.access.rules import Admin
from gallery_service.audit.entry_form import entry_json
from gallery_service.audit.trail import EntryFilter
from gallery_service.errors import BadQuery, Forbidden
from gallery_service.schemas import ErrorAnswer
from gallery_service.search.filters import parse_moment
from gallery_service.web.endpoints import Site

audit = APIRouter(prefix="/api/v1/sites/{site}")
_ERRORS: dict[int | str, dict[str, Any]] = {
    403: {"model": ErrorAnswer, "description": "Only for admins who may see the whole site"},
    404: {"model": ErrorAnswer, "description": "No such site"},
    422: {"model": ErrorAnswer, "description": "A parameter is wrong"},
}


class AuditEntry(BaseModel):
    """One thing that somebody did."""

    id: int
    at: str = Field(description="RFC 3339, UTC.")
    who: str
    via: str = Field(description="How they came: a session, an API key by its name, the command line.")
    action: str
    purpose: str | None
    details: dict[str, Any]
    hash: str = Field(description="SHA-256 of the entry and of all before it.")


class AuditPage(BaseModel):
    """Entries, the newest first."""

    entries: list[AuditEntry]
    next: str | None = Field(description="Give it as `cursor` for the entries before these; null at the end.")


@audit.get("/audit", summary="Who did what", responses=_ERRORS)
def read_audit(
    site: Site,
    caller: Admin,
    who: Annotated[str | None, Query(description="Only what this user did.")] = None,
    action: Annotated[str | None, Query(description="Only this action; `user` finds user.added too.")] = None,
    since: Annotated[str | None, Query(description="RFC 3339 with offset.")] = None,
    until: Annotated[str | None, Query(description="RFC 3339 with offset.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> AuditPage:
    """Entries name tracklets of every camera, so they are for admins who may see every camera of the site."""
    if caller.cameras(site.name) is not None:
        raise Forbidden("the audit log names what every camera saw; it is for admins who may see the whole site")
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise BadQuery("cursor: give what the page before has as 'next'")
    wanted = EntryFilter(
        who, action, parse_moment(since, "since") if since else None, parse_moment(until, "until") if until else None
    )
    found = site.audit.newest(wanted, int(cursor) if cursor else None, limit)
    entries = [AuditEntry(**entry_json(entry, stored_hash)) for entry, stored_hash in found]
    more = len(found) == limit and found[-1][0].id > 1
    return AuditPage(entries=entries, next=str(found[-1][0].id) if more else None)
