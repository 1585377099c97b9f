"""What is in the audit log already, so that one thing that somebody does in many requests is recorded once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable

WHILE_S = 600.0
"""Requests for the same thing within this time, seconds, are one: a player asks for a clip in many parts."""
_KEPT = 50_000


class Recently:
    """What was recorded in the last minutes.

    What is forgotten too early, in a restart too, is recorded once more, never once less. Safe to use from several
    threads.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, things: Iterable[tuple[str, ...]]) -> None:
        """Note things that were recorded; each by what tells it from others: who, what, of which tracklet."""
        until = time.monotonic() + WHILE_S
        with self._lock:
            for thing in things:
                self._until[thing] = until
                self._until.move_to_end(thing)
            while len(self._until) > _KEPT:
                self._until.popitem(last=False)

    def has(self, *thing: str) -> bool:
        """Whether this was recorded lately."""
        with self._lock:
            return self._until.get(thing, 0.0) > time.monotonic()
