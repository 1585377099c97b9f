"""Who asks is found out once, before anything is done for a request."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from gallery_service.caller import LOCAL


class Gate:
    """ASGI middleware: notes the caller of a request, for `gallery_service.caller.caller_of`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = LOCAL
        await self._app(scope, receive, send)
