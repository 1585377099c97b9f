"""The index against a brute-force ranking, with filters that leave few or none, and with equal vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gallery_service.index import SCORE_STEP, TrackletIndex


def reference(vectors: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray | None) -> list[tuple[int, float]]:
    """Score every allowed row by itself and sort: the best first, the lower row first among equals."""
    rows = [row for row in range(len(vectors)) if allowed is None or allowed[row]]
    scored = [(row, round(float(np.dot(vectors[row].astype(float), query.astype(float))), 6)) for row in rows]
    return sorted(scored, key=lambda one: (-one[1], one[0]))[:k]


@st.composite
def galleries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, np.ndarray | None]:
    dim = draw(st.sampled_from([2, 8, 33]))
    distinct = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    base = generator.normal(size=(distinct, dim)).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    # The same vector many times: the order must not depend on where FAISS met it.
    vectors = base[generator.integers(0, distinct, draw(st.integers(1, 120)))]
    query = base[0] if draw(st.booleans()) else generator.normal(size=dim).astype(np.float32)
    query = (query / np.linalg.norm(query)).astype(np.float32)
    share = draw(st.sampled_from([None, 0.0, 0.03, 0.3, 1.0]))
    allowed = None if share is None else generator.random(len(vectors)) < share
    return vectors, query, draw(st.integers(1, 50)), allowed


@given(galleries())
@settings(max_examples=200)
def test_finds_what_brute_force_finds(case: tuple[np.ndarray, np.ndarray, int, np.ndarray | None]) -> None:
    vectors, query, k, allowed = case
    rows, scores = TrackletIndex(vectors).search(query, k, allowed)
    expected = reference(vectors, query, k, allowed)
    np.testing.assert_allclose(scores, [score for _, score in expected], atol=1.5 * SCORE_STEP)
    assert list(scores) == sorted(scores, reverse=True)
    assert len(set(rows.tolist())) == len(rows) == len(expected)
    for (row, score), wanted in zip(zip(rows.tolist(), scores.tolist(), strict=True), expected, strict=True):
        # Two different vectors may lie within one step of each other; equal ones must come in their order.
        assert row == wanted[0] or abs(score - wanted[1]) <= 1.5 * SCORE_STEP
    if allowed is not None:
        assert allowed[rows].all()


@given(st.integers(0, 1000), st.integers(1, 30))
def test_equal_vectors_come_in_row_order(seed: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    one = generator.normal(size=16).astype(np.float32)
    one /= np.linalg.norm(one)
    vectors = np.tile(one, (300, 1))
    allowed = generator.random(300) < 0.5
    rows, _ = TrackletIndex(vectors).search(one, k, allowed)
    assert rows.tolist() == np.flatnonzero(allowed)[:k].tolist()


def test_a_narrow_filter_finds_the_worst_of_many() -> None:
    """What filtering after a top-k search would lose."""
    generator = np.random.default_rng(5)
    vectors = generator.normal(size=(5000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[0]
    last = int(np.argmin(vectors @ query))
    allowed = np.zeros(5000, bool)
    allowed[last] = True
    rows, scores = TrackletIndex(vectors).search(query, 10, allowed)
    assert rows.tolist() == [last]
    assert scores[0] == pytest.approx(float(vectors[last] @ query), abs=1e-5)


def test_an_empty_gallery_finds_nothing() -> None:
    rows, scores = TrackletIndex(np.empty((0, 8), np.float32)).search(np.ones(8, np.float32), 5)
    assert len(rows) == len(scores) == 0


def test_gives_back_the_vectors_it_holds() -> None:
    vectors = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
    np.testing.assert_array_equal(TrackletIndex(vectors).vectors(np.array([3, 3, 0])), vectors[[3, 3, 0]])
