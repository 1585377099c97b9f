"""What keeps a model from taking over, and what must not."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gallery_service.indexing.takeover import _not_found_by_themselves
from gallery_service.search.index import TrackletIndex
from gallery_service.search.loaded_gallery import LoadedGallery

COUNT, DIM = 100, 512


def not_found(index: TrackletIndex) -> list[str]:
    """Which of all tracklets do not find themselves."""
    names = [str(row) for row in range(len(index))]
    gallery = SimpleNamespace(index=index, shards=names, columns=SimpleNamespace(tracklet_ids=names))
    return _not_found_by_themselves(cast(LoadedGallery, gallery), random.Random(0))


def people(twins_at: float) -> Any:
    """Vectors of people, and as many again of their twins, at an angle."""
    drawn = np.random.default_rng(0).normal(size=(2, COUNT, DIM))
    one, other = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
    other -= (other * one).sum(axis=1, keepdims=True) * one
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return np.concatenate([one, np.cos(twins_at) * one + np.sin(twins_at) * other]).astype(np.float16)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 1e-3, 3e-3, 5e-3, 8e-3, 1.2e-2, 0.1, 1.5])
def test_twins_do_not_keep_a_model_from_taking_over(angle: float) -> None:
    assert not_found(TrackletIndex(people(angle))) == []


def test_an_index_that_loses_somebody_is_noticed() -> None:
    class Forgetful(TrackletIndex):
        def search(self, query, k, allowed=None):  # type: ignore[no-untyped-def]
            return super().search(query, k, np.arange(len(self)) != 7)

    for angle in (0.1, 1.5):  # also where somebody who looks like them is found instead
        assert [problem.split(":")[0] for problem in not_found(Forgetful(people(angle)))] == ["7"]


def test_vectors_that_are_shorter_than_one_are_noticed() -> None:
    vectors = people(1.5)
    vectors[5] *= 0.9
    assert [problem.split(":")[0] for problem in not_found(TrackletIndex(vectors))] == ["5"]
