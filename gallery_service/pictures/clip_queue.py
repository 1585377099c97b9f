"""Cutting clips on threads of their own, so that searches never wait for them."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.to_thread import run_sync

from gallery_service.errors import Busy

AT_ONCE = 2
WAITING = 16


class ClipQueue:
    """A few clips are cut at a time; a few more may wait; the rest are told to come again.

    The framework has one pool of threads for everything: a page of matches, played, would fill it with clips that wait
    for each other, and a search would wait behind them. To be used on one event loop.

    Args:
        at_once: clips cut at the same time.
        waiting: clips that may wait.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._room = at_once + waiting
        self._inside = 0

    @property
    def inside(self) -> int:
        """Clips being cut or waiting for it."""
        return self._inside

    async def cut(self, clip: Callable[[], bytes]) -> bytes:
        """What `clip` gives, called in a thread.

        Raises:
            Busy: too many are waiting.
        """
        if self._inside >= self._room:
            raise Busy("other clips are being cut; try again in a moment")
        self._inside += 1
        try:
            return await run_sync(clip, limiter=self._limiter)
        finally:
            self._inside -= 1
