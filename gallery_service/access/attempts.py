"""How often signing in may fail, per name and per address, before nobody may try for a while.

In memory: a restart forgives. Names that nobody has count like names that somebody has, so that being refused tells
nothing about a name. A stranger can keep somebody from signing in for the while, but whoever is signed in stays so, and
keys go on working.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from gallery_service.errors import TooManyAttempts

PER_NAME = 10
PER_ADDRESS = 30
WHILE_S = 900.0
_KEPT = 10_000


class Attempts:
    """The failures of the last quarter of an hour. Safe to use from several threads.

    Args:
        clock: seconds that only go up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, address: str) -> None:
        """Count an attempt as failed until it has succeeded, so that many at once are not one.

        Args:
            name: whose password it is to be.
            address: where it comes from.

        Raises:
            TooManyAttempts: too many have failed; this one must not be made.
        """
        with self._lock:
            now = self._clock()
            wait = max(self._wait(("name", name), PER_NAME, now), self._wait(("address", address), PER_ADDRESS, now))
            if wait > 0:
                raise TooManyAttempts(f"signing in failed too often; try again in {int(wait // 60) + 1} minutes")
            for key in (("name", name), ("address", address)):
                self._failures.setdefault(key, deque()).append(now)
                self._failures.move_to_end(key)
            while len(self._failures) > _KEPT:
                self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """It was its owner: forget what failed for the name. What failed from the address stays, but for this one."""
        with self._lock:
            self._failures.pop(("name", name), None)
            failures = self._failures.get(("address", address))
            if failures:
                failures.pop()

    def _wait(self, key: tuple[str, str], most: int, now: float) -> float:
        """Seconds until another attempt may be made."""
        failures = self._failures.get(key)
        while failures and failures[0] <= now - WHILE_S:
            failures.popleft()
        return failures[-most] + WHILE_S - now if failures and len(failures) >= most else 0.0
