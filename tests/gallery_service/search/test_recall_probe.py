"""The probe sees an index that loses hits, and the metrics tell of it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from gallery_service.search.index import TrackletIndex
from gallery_service.search.recall_probe import RecallProbe, recall_at_10
from tests.gallery_service.conftest import RunningService


class Forgetful(TrackletIndex):
    """Finds only every second row."""

    def search(self, query, k, allowed=None):  # type: ignore[no-untyped-def]
        return super().search(query, k, np.arange(len(self)) % 2 == 0)


def vectors(count: int) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(count, 32))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("count", [1, 5, 10, 300])
def test_an_exact_index_finds_all(count: int) -> None:
    gallery = SimpleNamespace(index=TrackletIndex(vectors(count)))
    assert all(recall_at_10(gallery, row) == 1.0 for row in range(min(count, 20)))


def test_vectors_that_hardly_differ_are_all_found() -> None:
    """Rounded to float16, some are longer than 1: the product with those is the highest, their cosine is not."""
    one, *others = vectors(301).astype(np.float64)
    alike = one + 3e-3 * np.stack(others)
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    gallery = SimpleNamespace(index=TrackletIndex(alike.astype(np.float16)))
    assert all(recall_at_10(gallery, row) == 1.0 for row in range(300))


def test_lost_hits_are_seen() -> None:
    gallery = SimpleNamespace(index=Forgetful(vectors(300)))
    assert np.mean([recall_at_10(gallery, row) for row in range(40)]) < 0.75


def test_the_probe_costs_one_scan_now_and_then() -> None:
    searched = []

    class Counted(TrackletIndex):
        def search(self, query, k, allowed=None):  # type: ignore[no-untyped-def]
            searched.append(k)
            return super().search(query, k, allowed)

    probe, gallery = RecallProbe(), SimpleNamespace(index=Counted(vectors(50)))
    assert [probe.recall(gallery) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert searched == [10]
    assert math.isnan(probe.recall(SimpleNamespace(index=TrackletIndex(vectors(0).reshape(0, 32)))))


def test_metrics_and_readiness_tell_what_answers(service: RunningService) -> None:
    ready = httpx.get(service.url + "/readyz", timeout=60).json()
    assert ready["providers"]["toy"].endswith("ExecutionProvider")
    text = httpx.get(service.url + "/metrics", timeout=60).text
    assert 'calr_recall_at_10{site="toy"} 1.0' in text
    model = httpx.get(service.url + "/api/v1/sites/toy", timeout=60).json()["model_version"]
    assert f'calr_model{{provider="{ready["providers"]["toy"]}",site="toy",version="{model}"}} 1.0' in text
