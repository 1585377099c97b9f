"""Bounds on what a client may send, enforced before anything of it is kept.

A body that announces itself as too large is refused unread. One that does not announce its size is counted as it
arrives and refused at the first byte too many. What a refused client still sends is thrown away as it comes, and only
for as long as it needs to read the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gallery_service.web.problem_details import MEDIA_TYPE, problem_details, when_to_come_again

# Besides the image, a multipart body has boundaries and headers.
MULTIPART_SLACK = 16 * 1024
# How long a refused client may go on sending before the connection is closed on it.
LINGER_S = 5.0
_CLOSE = (b"connection", b"close")


async def refuse(
    receive: Receive, send: Send, status: int, detail: str, more_headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a problem and have the connection closed, since a body may still be on its way.

    Closing a socket that holds unread bytes resets the connection, and the client may lose the answer with it (RFC
    9112, section 9.6). So the answer goes out first, and what arrives meanwhile is thrown away for a bounded time.

    Args:
        more_headers: besides the usual ones.
    """
    all_headers = when_to_come_again(status) | dict(more_headers or {})
    body = json.dumps(problem_details(status, detail), ensure_ascii=False).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        _CLOSE,
        *((name.lower().encode(), value.encode()) for name, value in all_headers.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


class RequestLimit:
    """ASGI middleware: 503 for requests beyond `most` at a time. Connections that ask for nothing do not count, nor do
    clients who were refused and go on sending: else whoever is refused often enough could shut out everybody.

    Args:
        most: at a time.
        uncounted: paths that are always answered, since whoever is not known may ask for them and take as long as they
            like to read the answer.
    """

    def __init__(self, app: ASGIApp, most: int, uncounted: Callable[[str], bool]) -> None:
        self._app = app
        self._most = most
        self._uncounted = uncounted
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or self._uncounted(scope["path"]):
            await self._app(scope, receive, send)
            return
        if self._running >= self._most:
            await refuse(receive, send, 503, "the service is busy with other requests; try again in a moment")
            return
        self._running += 1
        counted = True

        async def noting(message: Message) -> None:
            nonlocal counted
            if counted and message["type"] == "http.response.start" and _CLOSE in message.get("headers", ()):
                self._running -= 1
                counted = False
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._running -= counted


class _BodyRefused(Exception):  # noqa: N818 never leaves this module
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class BodyLimit:
    """ASGI middleware: 413 for bodies of more than `max_bytes` (plus what multipart adds), 408 for ones that take
    longer than `timeout_s` to arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_bytes + MULTIPART_SLACK
        too_large = f"the upload is larger than {self._max_bytes / 1024 / 1024:g} MiB; send one crop of one person"
        announced = [value for name, value in scope["headers"] if name == b"content-length"]
        for value in announced:
            if not value.isdigit() or int(value) > limit:
                await refuse(receive, send, 413, too_large)
                return
        received = 0
        complete = False
        started = False
        deadline = asyncio.get_running_loop().time() + self._timeout_s

        async def counted() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # waits for the client to leave
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _BodyRefused(408, f"the upload took longer than {self._timeout_s:g} s; send it again") from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if received > limit:
                    raise _BodyRefused(413, too_large)
            return message

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noting)
        except _BodyRefused as refusal:
            if started:
                raise
            await refuse(receive, send, refusal.status, refusal.detail)
