"""Other web pages that a user's browser has open must not reach the service: neither by sending requests across
origins, nor by having their own name point at this machine (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gallery_service.web.limits import refuse

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, lower case; empty when it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
        plain = not parts.path and not parts.query and not parts.fragment and "@" not in host
    except ValueError:
        return ""
    return (parts.hostname or "") if plain else ""


class TrustedHosts:
    """ASGI middleware: 400 for requests that address the service by a name it does not have.

    The address that a request came in at is a name it has: no other page can have that as its own.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if host_name(host) not in self._names and host_name(host) != _came_in_at(scope):
                await refuse(
                    receive,
                    send,
                    400,
                    f"this service is not called {host[:100]!r}; use its address, or add the name to "
                    "CALR_SERVICE_ALLOWED_HOSTS",
                )
                return
        await self._app(scope, receive, send)


def _came_in_at(scope: Scope) -> str | None:
    server = scope.get("server")
    return str(server[0]).lower() if server else None


class SameOrigin:
    """ASGI middleware: 403 for requests that change or cost something and come from another site's page.

    Browsers say where a request comes from in Sec-Fetch-Site, older ones in Origin; other programs say neither, and
    are let through.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            headers = Headers(scope=scope)
            if not _is_own(headers, scope["scheme"]):
                await refuse(
                    receive, send, 403, "requests from pages of other sites are refused; use this service's own page"
                )
                return
        await self._app(scope, receive, send)


def _is_own(headers: Headers, scheme: str) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() == f"{scheme}://{headers.get('host', '')}".lower()
