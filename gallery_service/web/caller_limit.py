"""How many costly requests a caller may make, so that one program with one key does not take the service from all."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from gallery_service.web.limits import refuse

_FREE_METHODS = ("GET", "HEAD", "OPTIONS")
# Whose buckets are remembered; a forgotten one is full again.
_CALLERS_KEPT = 10_000


@dataclass
class _Bucket:
    tokens: float
    at: float


class TokenBuckets:
    """A token bucket per name: `per_minute` requests at once, refilled evenly over a minute.

    Args:
        per_minute: what a minute allows, at least 1.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Take a token: 0, or the seconds until there is one again, and none is taken."""
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(self._most, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > _CALLERS_KEPT:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._per_second
        bucket.tokens -= 1
        return 0.0


class CallerLimit:
    """ASGI middleware, behind the one that finds out who asks: 429 with Retry-After for callers who search or change
    more often than they may, or more at once. Looking at pages and crops is free, and so is whoever is not known yet:
    signing in has its own limits.

    Args:
        per_minute: searches and changes of one caller in a minute.
        at_once: searches and changes of one caller that are being answered.
    """

    def __init__(self, app: ASGIApp, per_minute: int, at_once: int) -> None:
        self._app = app
        self._per_minute = per_minute
        self._buckets = TokenBuckets(per_minute)
        self._at_once = at_once
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        caller = scope.get("state", {}).get("caller")
        if scope["type"] != "http" or scope["method"] in _FREE_METHODS or caller is None:
            await self._app(scope, receive, send)
            return
        if self._running[caller.name] >= self._at_once:
            detail = f"more than {self._at_once} searches and changes at once; wait for an answer before you ask more"
            await refuse(receive, send, 429, detail, {"Retry-After": "1"})
            return
        wait_s = self._buckets.wait_s(caller.name)
        if wait_s:
            seconds = math.ceil(wait_s)
            detail = f"more than {self._per_minute} searches and changes in a minute; try again in {seconds} s"
            await refuse(receive, send, 429, detail, {"Retry-After": str(seconds)})
            return
        self._running[caller.name] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running[caller.name] -= 1
            if not self._running[caller.name]:
                del self._running[caller.name]
