"""One line of the log per request: who asked what of which address, and what became of it. Never what was in a body.

Who searched for whom, and why, is in the audit log, which is for other eyes than this one.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Literal

from pythonjsonlogger.json import JsonFormatter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LogFormat = Literal["text", "json"]

_log = logging.getLogger("gallery_service.requests")


class RequestLog:
    """ASGI middleware, the outermost: gives every request an id, answers it in X-Request-Id, and logs the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began, status = uuid.uuid4().hex, time.perf_counter(), 0

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, with_id)
        finally:
            caller = scope.get("state", {}).get("caller")
            _log.info(
                "request",
                extra={
                    "request_id": request_id,
                    "caller": getattr(caller, "name", None),
                    "method": scope["method"],
                    # Not the address: it may name a tracklet, or hold a purpose.
                    "route": getattr(scope.get("route"), "path", None),
                    "site": scope.get("path_params", {}).get("site"),
                    "status": status,
                    "milliseconds": round(1000 * (time.perf_counter() - began), 1),
                },
            )


def configure_log(form: LogFormat) -> None:
    """Send the service's log to standard error.

    Args:
        form: "text" for a person at a terminal: warnings and errors only; "json" for a collector: an object a line, one
            line per request too.
    """
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(
            JsonFormatter(
                "%(message)s %(levelname)s %(name)s",
                rename_fields={"levelname": "level", "name": "logger"},
                timestamp="at",
            )
        )
        logging.getLogger("gallery_service").setLevel(logging.INFO)
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
