"""An error nobody foresaw: logged in full, and answered without its insides."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gallery_service.web.limits import refuse

_log = logging.getLogger("gallery_service")


class InternalErrors:
    """ASGI middleware: 500 as JSON like every other error. The framework's own handler sits outside all middleware,
    where its answer would lack the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise  # half an answer is out: breaking the connection is the only way left to say so
            await refuse(receive, send, 500, "something went wrong inside the service; its log says what")
