"""Signing in and out on a page, and who one is over the API."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field

from gallery_service.access import small_form
from gallery_service.access.gate import COOKIE
from gallery_service.access.identity import Identities
from gallery_service.access.rules import Viewer
from gallery_service.caller import Role
from gallery_service.errors import NotSignedIn, TooManyAttempts
from gallery_service.pages.rendering import render

HOME = "/"
# Name and password are short, and whoever sends them is nobody yet.
_BODY_S = 5


class Me(BaseModel):
    """Who asks, and what they may see."""

    name: str
    role: Role
    rights: dict[str, list[str]] | None = Field(
        description="Camera ids by site, '*' among them for all; null: everything of every site."
    )


def account_routes(identities: Identities) -> APIRouter:
    """The routes.

    Args:
        identities: who is who.
    """
    routes = APIRouter()

    @routes.get("/api/v1/me", summary="Who you are")
    def me(caller: Viewer) -> Me:
        """Name, role and rights that the service knows you by."""
        rights = None if caller.rights is None else {site: sorted(seen) for site, seen in caller.rights.items()}
        return Me(name=caller.name, role=caller.role, rights=rights)

    @routes.get("/sign-in", include_in_schema=False)
    def sign_in_page(request: Request, next: Annotated[str, Query(max_length=2000)] = HOME) -> Response:
        """Asks for name and password, unless that is known."""
        if request.state.caller is not None:
            return RedirectResponse(_own_path(next), 303)
        return _page(request, next)

    @routes.post("/sign-in", include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        """Begins a session."""
        try:
            async with asyncio.timeout(_BODY_S):
                body = await small_form.read_body(request.receive)
        except TimeoutError:
            return _page(request, HOME, f"that took longer than {_BODY_S} s to arrive; try again", 408)
        given = {} if body is None else small_form.fields(body)
        wanted = given.get("next", HOME)
        if not identities.has_users:
            return RedirectResponse(HOME, 303)
        address = request.client.host if request.client else ""
        try:
            token = await run_in_threadpool(
                identities.sign_in, given.get("name", ""), given.get("password", ""), address
            )
        except (NotSignedIn, TooManyAttempts) as error:
            return _page(request, wanted, str(error), error.status)
        response = RedirectResponse(_own_path(wanted), 303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure, path="/")
        return response

    @routes.post("/sign-out", include_in_schema=False)
    def sign_out(request: Request, caller: Viewer) -> Response:
        """Ends the session."""
        if request.state.session is not None:
            identities.sign_out(caller, request.state.session)
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(COOKIE, path="/")
        return response

    def _page(request: Request, wanted: str, problem: str | None = None, status: int = 200) -> Response:
        return render(request, "sign_in.html", status, next=_own_path(wanted), problem=problem)

    return routes


def _own_path(wanted: str) -> str:
    """Where to go after signing in: a path of this service, never another one's address."""
    safe = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if safe else HOME
