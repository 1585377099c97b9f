"""Does the index find what is there? A stored vector is searched for, and compared with the plain product with all."""

from __future__ import annotations

import threading
import time

import numpy as np

from gallery_service.search.loaded_gallery import LoadedGallery

K = 10
# A metric that is scraped every few seconds must not cost a scan each time.
_AGAIN_AFTER_S = 600.0
_BLOCK = 65_536


def recall_at_10(gallery: LoadedGallery, row: int) -> float:
    """Share of the true 10 nearest of a row (fewer where the gallery has fewer) that the index finds."""
    index = gallery.index
    query = index.vectors(np.array([row], np.int64))[0]
    products = [
        index.vectors(np.arange(start, min(start + _BLOCK, len(index)))) @ query
        for start in range(0, len(index), _BLOCK)
    ]
    # As the index has it, products above 1, of vectors rounded up, are cosines of 1.
    cosines = np.clip(np.concatenate(products), -1.0, 1.0)
    k = min(K, len(cosines))
    last = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
    found, _ = index.search(query, k)
    # By cosine, not by row: of equals either may be there.
    return float(np.mean(cosines[found] >= last - 1e-5))


class RecallProbe:
    """Probes one loaded gallery after the other, now and then; safe to use from several threads."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._last: tuple[float, float] | None = None
        self._probing = threading.Lock()

    def recall(self, gallery: LoadedGallery) -> float:
        """The latest recall@10; NaN for an empty gallery."""
        if not len(gallery.index):
            return float("nan")
        with self._probing:
            now = time.monotonic()
            if self._last is None or now - self._last[0] > _AGAIN_AFTER_S:
                self._last = now, recall_at_10(gallery, int(self._random.integers(len(gallery.index))))
            return self._last[1]
