"""What was searched for a moment ago, so that a search can be taken into an investigation after its answer was seen.

Only vectors are kept, in memory, a bounded number of them for a bounded time: query pictures are not.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gallery_service.storage.repository import StoredTracklet

KEPT_S = 3600.0
_MOST = 1000


@dataclass(frozen=True)
class AskedQuery:
    """One search.

    Attributes:
        query_id: of the answer.
        kind: what it started from.
        asked_by: the caller's name.
        asked_at: UTC microseconds.
        model_version: whose space `vector` is in.
        vector: float32 (D,), what was searched with.
        pictures: how many the client sent.
        tracklet: that it started from.
        filters: as JSON in the record of searches.
    """

    query_id: str
    kind: Literal["image", "tracklet", "refined"]
    asked_by: str
    asked_at: int
    model_version: str
    vector: NDArray[np.float32]
    pictures: int
    tracklet: StoredTracklet | None
    filters: str


class RecentQueries:
    """The searches of the last hour, the latest `most` of them. Safe to use from several threads."""

    def __init__(self, kept_s: float = KEPT_S, most: int = _MOST) -> None:
        self._kept_s = kept_s
        self._most = most
        self._queries: OrderedDict[str, tuple[float, AskedQuery]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, query: AskedQuery) -> None:
        """Remember a search."""
        with self._lock:
            self._queries[query.query_id] = time.monotonic() + self._kept_s, query
            self._drop_old()

    def get(self, query_id: str, asked_by: str) -> AskedQuery | None:
        """A search that this caller made; None when it is no longer here, or was somebody else's."""
        with self._lock:
            self._drop_old()
            found = self._queries.get(query_id)
        return found[1] if found is not None and found[1].asked_by == asked_by else None

    def forget(self, erased: Callable[[list[StoredTracklet]], Collection[str]]) -> None:
        """Let go of the searches that started from somebody who was erased since.

        Args:
            erased: the ids of those among some tracklets.
        """
        with self._lock:
            self._drop_old()
            started = {key: query.tracklet for key, (_, query) in self._queries.items() if query.tracklet is not None}
        gone = erased(list(started.values()))
        with self._lock:
            for key in [key for key, tracklet in started.items() if tracklet.tracklet_id in gone]:
                self._queries.pop(key, None)

    def _drop_old(self) -> None:
        while self._queries:
            oldest = next(iter(self._queries.values()))
            if len(self._queries) <= self._most and oldest[0] > time.monotonic():
                return
            self._queries.popitem(last=False)
