"""How long a connection may say nothing, or not listen: a client that opens one and sends no request, or half of one,
or does not read its answer, is let go."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a bound on how long a request's line and headers take to arrive, from the moment when the
    connection is opened or the answer before is complete, and on how long a client may take no part of an answer.
    uvicorn itself waits for ever.
    """

    header_timeout_s = 10.0
    reading_timeout_s = 30.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._waiting: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        self._stop_waiting()
        self._stop_waiting_for_reading()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Something has arrived; is it a whole request?"""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """The answer is out; the next request may begin."""
        self._wait()  # before what waits in the pipeline is looked at
        super().on_response_complete()

    def pause_writing(self) -> None:
        """As much lies here as may; the client does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.reading_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read most of it."""
        super().resume_writing()
        self._stop_waiting_for_reading()

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(self.header_timeout_s, self._let_go)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _stop_waiting_for_reading(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _let_go(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()  # once what lies here is read
            self.loop.call_later(self.reading_timeout_s, self.transport.abort)
