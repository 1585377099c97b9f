"""Who looked at what lately, so that looking at one thing is recorded once and not with every request for it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable

from gallery_service.caller import Caller

LOOK_S = 600.0
"""Requests for the same thing within this time, seconds, are one look: a player asks for a clip in many parts."""
_KEPT = 50_000


class Looks:
    """Looks of the last minutes. What is forgotten too early, in a restart too, is recorded once more, never once less.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, caller: Caller, kind: str, tracklet_ids: Iterable[str]) -> None:
        """Note that what the caller saw is in the audit log.

        Args:
            caller: who looks.
            kind: at what of a tracklet, such as its clip.
            tracklet_ids: of which tracklets.
        """
        until = time.monotonic() + LOOK_S
        with self._lock:
            for tracklet_id in tracklet_ids:
                key = (caller.name, kind, tracklet_id)
                self._until[key] = until
                self._until.move_to_end(key)
            while len(self._until) > _KEPT:
                self._until.popitem(last=False)

    def recent(self, caller: Caller, kind: str, tracklet_id: str) -> bool:
        """Whether this look is in the audit log already."""
        with self._lock:
            return self._until.get((caller.name, kind, tracklet_id), 0.0) > time.monotonic()
