"""Who asks is found out once, before anything else is done for a request; strangers get no further.

A browser sends a session's cookie along whoever's page it is on. So a request with the cookie that changes something
(any method but GET, HEAD and OPTIONS) must also carry the token that only this service's own pages know. That
`gallery_service.web.origin.SameOrigin` turns away pages of other sites, and the cookie is `SameSite=Lax`, comes before;
the token does not depend on what a browser or a proxy between makes of its headers. API keys need none: no page can
make a browser send one.

Strangers who sign in share a part of what the service answers at once, so that however many of them sit at the door,
those who are known get in.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import Counter
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gallery_service.access.form_token import token_in_body
from gallery_service.access.identity import Identities, Identity
from gallery_service.access.rules import is_open, is_unasked
from gallery_service.access.tokens import csrf_token, is_csrf_token
from gallery_service.errors import GalleryError, NotSignedIn
from gallery_service.web.limits import refuse

COOKIE = "calr_session"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_FORWARDED = ("forwarded", "x-forwarded-", "x-real-ip", "via")
"""How the names of headers begin that proxies add."""
_BEARER = {"WWW-Authenticate": "Bearer"}

_log = logging.getLogger("gallery_service")


class Gate:
    """ASGI middleware: notes the caller of a request, for `gallery_service.caller.caller_of`, and the CSRF token of
    their session, for pages.

    Args:
        identities: who is who.
        most_strangers: requests at a time and path of whoever is not known; more are answered 503.
    """

    def __init__(self, app: ASGIApp, identities: Identities, most_strangers: int) -> None:
        self._app = app
        self._identities = identities
        self._most_strangers = most_strangers
        self._strangers: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or is_unasked(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        try:
            identity = await run_in_threadpool(
                self._identities.identify,
                headers.get("authorization"),
                session,
                at_this_machine=_at_this_machine(scope, headers),
            )
        except NotSignedIn as error:
            await refuse(receive, send, error.status, str(error), _BEARER)
            return
        except GalleryError as error:  # nobody can say who asks
            _log.error("%s", error)
            await refuse(receive, send, error.status, error.told)
            return
        if identity is None:
            await self._answer_stranger(scope, headers, receive, send)
            return
        if identity.session is not None and scope["method"] not in _SAFE_METHODS:
            given, receive = await _csrf_token(headers, receive)
            if not is_csrf_token(given, identity.session):
                await refuse(
                    receive, send, 403, "the page is out of date: load it again (its X-CSRF-Token is missing or wrong)"
                )
                return
        _note(scope, identity)
        await self._app(scope, receive, send)

    async def _answer_stranger(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if not is_open(path):
            await self._turn_away(scope, headers, receive, send)
        elif self._strangers[path] >= self._most_strangers:
            await refuse(receive, send, 503, "too many are asking for this just now; try again in a moment")
        else:
            self._strangers[path] += 1
            try:
                _note(scope, None)
                await self._app(scope, receive, send)
            finally:
                self._strangers[path] -= 1

    async def _turn_away(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            wanted = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            await RedirectResponse(f"/sign-in?next={quote(wanted)}", 303)(scope, receive, send)
            return
        await refuse(receive, send, 401, "sign in, or send an API key as 'Authorization: Bearer calr_...'", _BEARER)


def _at_this_machine(scope: Scope, headers: Headers) -> bool:
    """Whether a program here asks for itself: not a proxy, which asks for others from wherever it stands."""
    try:
        here = scope["client"] is not None and ipaddress.ip_address(scope["client"][0]).is_loopback
    except ValueError:  # what a proxy says is no address
        return False
    return here and not any(name.startswith(_FORWARDED) for name in headers)


def _note(scope: Scope, identity: Identity | None) -> None:
    state = scope.setdefault("state", {})
    state["caller"] = None if identity is None else identity.caller
    state["session"] = None if identity is None else identity.session
    state["csrf_token"] = "" if identity is None or identity.session is None else csrf_token(identity.session)


async def _csrf_token(headers: Headers, receive: Receive) -> tuple[str, Receive]:
    """The token that a request carries, in a header or as a field of a plain form, and how to read its body then."""
    given = headers.get("x-csrf-token")
    if given is not None:
        return given, receive
    return await token_in_body(headers.get("content-type", ""), receive)
