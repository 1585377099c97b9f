"""The refined query against its plain statement."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gallery_service.investigations.refinement import Evidence


def unit(seed: int, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def slow_score(candidate: list[float], shown: list[list[float]], rejected: list[list[float]]) -> float:
    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    mean = [sum(column) / len(shown) for column in zip(*shown, strict=True)]
    length = math.sqrt(dot(mean, mean))
    score = (dot(candidate, mean) / length + max(dot(candidate, one) for one in shown)) / 2
    if rejected:
        score -= 0.25 * max(0.0, max(dot(candidate, one) for one in rejected) - score)
    return score


@given(st.integers(0, 9999), st.integers(1, 6), st.integers(0, 5), st.integers(0, 30), st.integers(2, 16))
def test_candidates_are_ordered_as_the_plain_statement_orders_them(
    seed: int, shown: int, rejected: int, count: int, dim: int
) -> None:
    evidence = Evidence(unit(seed, shown, dim), unit(seed + 1, rejected, dim))
    candidates = unit(seed + 2, count, dim)
    scores = [slow_score(c.tolist(), evidence.shown.tolist(), evidence.rejected.tolist()) for c in candidates]
    order = evidence.order(candidates)
    assert sorted(order.tolist()) == list(range(count))
    for one, following in itertools.pairwise(order):
        assert scores[one] >= scores[following] - 3e-6


@given(st.integers(0, 9999), st.integers(1, 6), st.integers(2, 16))
def test_the_prototype_is_the_direction_of_the_mean(seed: int, shown: int, dim: int) -> None:
    vectors = unit(seed, shown, dim)
    prototype = Evidence(vectors, unit(0, 0, dim)).prototype()
    assert np.linalg.norm(prototype) == pytest.approx(1, abs=1e-5)
    mean = vectors.astype(float).mean(axis=0)
    np.testing.assert_allclose(prototype * np.linalg.norm(mean), mean, atol=1e-5)


def test_views_that_cancel_each_other_out_are_no_error() -> None:
    opposite = np.array([[1, 0], [-1, 0]], np.float32)
    evidence = Evidence(opposite, np.empty((0, 2), np.float32))
    assert evidence.prototype().tolist() == [0, 0]
    assert evidence.order(np.array([[0, 1], [-1, 0]], np.float32)).tolist() == [1, 0]


def test_equals_stay_in_the_order_they_came_in() -> None:
    evidence = Evidence(np.array([[1, 0]], np.float32), np.empty((0, 2), np.float32))
    assert evidence.order(np.tile(np.array([[0.6, 0.8]], np.float32), (5, 1))).tolist() == [0, 1, 2, 3, 4]


def test_one_that_looks_more_like_a_rejected_one_falls_behind() -> None:
    shown, rejected = np.array([[1, 0, 0]], np.float32), np.array([[0, 1, 0]], np.float32)
    candidates = np.array([[0.6, 0.8, 0], [0.58, 0, math.sqrt(1 - 0.58**2)]], np.float32)
    nothing = np.empty((0, 3), np.float32)
    assert Evidence(shown, nothing).order(candidates).tolist() == [0, 1]
    assert Evidence(shown, rejected).order(candidates).tolist() == [1, 0]
