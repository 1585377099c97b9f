"""The index against a brute-force ranking, with filters that leave few or none, and with equal vectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gallery_service.search import index, products
from gallery_service.search.filters import NO_TIME, FilterColumns, SearchFilters
from gallery_service.search.index import SCORE_STEP, TrackletIndex
from tests.gallery_service.search.test_products import masks


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
    base *= 0.999 / np.linalg.norm(base, axis=1, keepdims=True)  # float16 may be a little longer
    # The same vector many times: the order must not depend on where FAISS met it.
    vectors = base[generator.integers(0, distinct, draw(st.integers(1, 120)))].astype(np.float16)
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


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
@pytest.mark.parametrize(("rows", "dim"), [(1, 3), (300, 20), (3000, 64), (3000, 200)])
def test_no_cosine_exceeds_its_bound(rows: int, dim: int, scale: float) -> None:
    """Also for a query that is like no vector: its numbers are large where the vectors', for which codes are made, are
    small."""
    generator = np.random.default_rng(rows + dim)
    spread = np.exp(-np.arange(dim) * scale / 10)
    vectors = generator.normal(size=(rows, dim)) * spread + 2 * spread.max() * np.eye(dim)[0]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    made = TrackletIndex(vectors)
    for direction in (vectors[0].astype(float), np.eye(dim)[-1], 1 / spread, generator.normal(size=dim), np.zeros(dim)):
        query = direction / max(1e-9, float(np.linalg.norm(direction)))
        coded, unit, slack = made._coded_query(query)
        assert np.abs(coded).max() <= 127
        reach, found, _ = made._bounds.highest(coded, rows, index.Rows.all(rows))
        assert sorted(found.tolist()) == list(range(rows))
        above = unit * reach.astype(float) + slack - vectors[found].astype(float) @ query
        assert above.min() >= 0


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-127, 127)), min_size=1, max_size=30))
def test_a_whole_number_is_shared_out_among_its_places(numbers: list[tuple[int, int]]) -> None:
    repeats = np.array([places for places, _ in numbers])
    whole = np.array([float(each * places) for places, each in numbers])
    whole -= np.sign(whole)  # also such as do not go into equal parts
    shares = index._shared_out(whole, repeats)
    assert np.array_equal(np.add.reduceat(shares, np.cumsum(repeats) - repeats), whole)
    assert np.array_equal(shares, np.rint(shares)) and np.abs(shares).max() <= 127


@given(galleries())
def test_nearly_the_best_are_scored_exactly(case: tuple[np.ndarray, np.ndarray, int, np.ndarray | None]) -> None:
    vectors, query, k, allowed = case
    rows, scores = TrackletIndex(vectors).nearly(query, k, allowed)
    best = [score for _, score in reference(vectors, query, k, allowed)]
    assert len(set(rows.tolist())) == len(rows) == len(best)
    assert list(scores) == sorted(scores, reverse=True)
    np.testing.assert_allclose(scores, vectors[rows].astype(float) @ query.astype(float), atol=SCORE_STEP)
    assert (scores <= np.array(best) + 1.5 * SCORE_STEP).all(), "none is better than the best"
    if allowed is not None:
        assert allowed[rows].all()


def test_nearly_the_best_are_as_good_as_the_best_on_the_whole(gallery: tuple[np.ndarray, FilterColumns]) -> None:
    vectors, columns = gallery
    held = TrackletIndex(vectors)
    for allowed in (None, columns.camera == 0):
        for query in vectors[:5].astype(np.float32):
            gap = held.search(query, 300, allowed)[1] - held.nearly(query, 300, allowed)[1]
            assert 0 <= gap.mean() < 0.002


@given(st.integers(0, 1000), st.integers(1, 30))
def test_equal_vectors_come_in_row_order(seed: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    one = generator.normal(size=16).astype(np.float32)
    one /= np.linalg.norm(one)
    vectors = np.tile(one, (300, 1)).astype(np.float16)
    allowed = generator.random(300) < 0.5
    rows, _ = TrackletIndex(vectors).search(one, k, allowed)
    assert rows.tolist() == np.flatnonzero(allowed)[:k].tolist()


def test_cosines_that_rounding_took_above_1_are_equal() -> None:
    generator = np.random.default_rng(8)
    one = generator.normal(size=16)
    one /= np.linalg.norm(one)
    vectors = (one * (1 + 0.002 * generator.random((300, 1)))).astype(np.float16)
    query = (1.002 * one).astype(np.float32)
    rows, scores = TrackletIndex(vectors).search(query, 10)
    assert rows.tolist() == list(range(10))
    assert (scores == 1).all()


def test_a_narrow_filter_finds_the_worst_of_many() -> None:
    """What filtering after a top-k search would lose."""
    generator = np.random.default_rng(5)
    vectors = generator.normal(size=(5000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    query = vectors[0].astype(np.float32)
    last = int(np.argmin(vectors @ query))
    allowed = np.zeros(5000, bool)
    allowed[last] = True
    rows, scores = TrackletIndex(vectors).search(query, 10, allowed)
    assert rows.tolist() == [last]
    assert scores[0] == pytest.approx(float(vectors[last] @ query), abs=1e-5)


def test_an_empty_gallery_finds_nothing() -> None:
    rows, scores = TrackletIndex(np.empty((0, 8), np.float16)).search(np.ones(8, np.float32), 5)
    assert len(rows) == len(scores) == 0


def test_gives_back_the_vectors_it_holds() -> None:
    vectors = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float16)
    np.testing.assert_array_equal(TrackletIndex(vectors).vectors(np.array([3, 3, 0])), vectors[[3, 3, 0]])


def people(count: int, dim: int, seed: int) -> np.ndarray:
    """Tracklet vectors, about six a person, whose energy lies in few directions as that of real features does."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count // 6, dim))
    vectors = 0.5 + centres[generator.integers(0, len(centres), count)] + 0.5 * generator.normal(size=(count, dim))
    vectors *= np.exp(-np.arange(dim) / 16)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.flatnonzero(allowed)
    scores = np.round(vectors[rows].astype(np.float64) @ query.astype(np.float64), 6)
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


@pytest.fixture(scope="module")
def gallery() -> tuple[np.ndarray, FilterColumns]:
    count = 20_000
    generator = np.random.default_rng(2)
    first = generator.integers(0, 10**9, count)
    known = generator.random(count) < 0.9
    columns = FilterColumns(
        [f"t{row:05d}" for row in range(count)],
        [f"cam{number}" for number in range(10)],
        np.sort(generator.integers(0, 10, count)).astype(np.int32),
        np.where(known, first, NO_TIME),
        np.where(known, first + 10**5, NO_TIME),
        np.where(generator.random(count) < 0.9, generator.random(count), np.nan).astype(np.float32),
    )
    return people(count, 64, 1), columns


def some_filters(generator: np.random.Generator) -> SearchFilters:
    cameras = frozenset(f"cam{number}" for number in np.flatnonzero(generator.random(10) < generator.random()))
    # From everything down to a moment that a few tracklets touch, or none.
    length = int(10 ** generator.uniform(0, 9.3))
    since = int(generator.integers(-(10**6), 10**9))
    return SearchFilters(
        cameras=cameras if generator.random() < 0.5 else frozenset(),
        exclude_cameras=cameras if generator.random() < 0.3 else frozenset(),
        since=since if generator.random() < 0.7 else None,
        until=since + length if generator.random() < 0.7 else None,
        min_quality=float(generator.random()) if generator.random() < 0.2 else None,
        exclude_tracklets=frozenset(f"t{row:05d}" for row in generator.integers(0, 20_000, generator.integers(0, 3))),
    )


def test_filtered_search_is_brute_force_over_what_passes(gallery: tuple[np.ndarray, FilterColumns]) -> None:
    vectors, columns = gallery
    searched = TrackletIndex(vectors)
    generator = np.random.default_rng(3)
    passed = []
    for _ in range(1000):
        filters, k = some_filters(generator), int(generator.integers(1, 60))
        query = vectors[generator.integers(0, len(vectors))] + 0.02 * generator.normal(size=64)
        query = (query / np.linalg.norm(query)).astype(np.float32)
        allowed = columns.allowed(filters, None)
        everything = np.ones(len(vectors), bool) if allowed is None else allowed
        rows, scores = searched.search(query, k, allowed)
        expected, expected_scores = brute_force(vectors, query, k, everything)
        assert rows.tolist() == expected.tolist(), filters
        np.testing.assert_allclose(scores, expected_scores, atol=1e-9)
        passed.append(int(everything.sum()))
    kinds = np.array(passed)
    # Every way of answering was taken: nothing, one, few, enough to scan their codes, and nearly all.
    assert all((kinds == count).any() for count in (0, 1))
    assert (kinds > 15_000).sum() > 50
    assert ((kinds > 5_000) & (kinds < 10_000)).sum() > 50
    assert ((kinds > 1) & (kinds < 100)).sum() > 50


@pytest.fixture(scope="module")
def in_small_parts() -> Iterator[tuple[np.ndarray, TrackletIndex]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_ROWS_PER_PART", 1000)
        patch.setattr(products, "_cores", lambda: 3)
        patch.setattr(products, "_BLOCK", 512)
        patch.setattr(index, "_FIRST", 4)
        vectors = people(6000, 32, 7)
        vectors[3000:3040] = vectors[100]
        yield vectors, TrackletIndex(vectors)


def runs_of(*runs: tuple[int, int]) -> np.ndarray:
    allowed = np.zeros(6000, bool)
    for start, end in runs:
        allowed[start:end] = True
    return allowed


@given(masks(), st.integers(0, 5999), st.integers(1, 40))
@example(runs_of(), 0, 10)
@example(runs_of((0, 6000)), 100, 10)
@example(runs_of((0, 1)), 100, 10)
@example(runs_of((5999, 6000)), 100, 10)
@example(runs_of((0, 512), (1024, 1536)), 100, 3)
@example(runs_of((511, 1025)), 100, 3)
@example(runs_of((1, 2999), (3001, 6000)), 100, 3)
@example(runs_of((700, 4300)), 100, 60)
@example(np.arange(6000) % 2 == 0, 100, 10)
@example(np.arange(6000) % 5 == 0, 100, 10)
@settings(max_examples=200, deadline=None)
def test_rows_in_runs_are_searched_as_by_brute_force(
    in_small_parts: tuple[np.ndarray, TrackletIndex], allowed: np.ndarray, row: int, k: int
) -> None:
    vectors, searched = in_small_parts
    query = 0.99 * vectors[row].astype(np.float32)
    expected, expected_scores = brute_force(vectors, query, k, allowed)
    rows, scores = searched.search(query, k, allowed)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, expected_scores, atol=1e-9)


@pytest.mark.parametrize("count", [200, 3000])
def test_the_least_alike_are_ties_too(count: int) -> None:
    """float16 makes some vectors longer than 1: a product below -1 is a cosine of -1 as well."""
    vectors = np.zeros((count, 2), np.float16)
    vectors[:, 0] = -1
    vectors[: count // 2, 0] = np.nextafter(np.float16(-1), np.float16(-2))
    rows, scores = TrackletIndex(vectors).search(np.array([1, 0], np.float32), 20)
    assert rows.tolist() == list(range(20)) and set(scores) == {-1.0}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("share", [None, 0.3, 0.9])
def test_thousands_of_equals_come_in_row_order(
    monkeypatch: pytest.MonkeyPatch, parts: int, share: float | None
) -> None:
    """More equals than are looked at first, spread over all parts of the index."""
    monkeypatch.setattr(products, "_ROWS_PER_PART", 12_000 // parts)
    monkeypatch.setattr(products, "_cores", lambda: parts)
    vectors = people(12_000, 32, 4)
    generator = np.random.default_rng(5)
    vectors[generator.permutation(12_000)[:5000]] = vectors[7]
    allowed = np.ones(12_000, bool) if share is None else generator.random(12_000) < share
    query = vectors[7].astype(np.float32)
    rows, scores = TrackletIndex(vectors).search(query, 50, None if share is None else allowed)
    expected, expected_scores = brute_force(vectors, query, 50, allowed)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, expected_scores, atol=1e-9)


@pytest.mark.parametrize("left_out", [0.0, 0.06, 0.5, 0.9])
@pytest.mark.parametrize("k", [1, 20, 200])
@pytest.mark.parametrize("kind", ["noise", "nearly equal", "all in one part"])
def test_however_loose_the_bounds_the_answer_holds(
    monkeypatch: pytest.MonkeyPatch, left_out: float, k: int, kind: str
) -> None:
    """Codes that leave much out, vectors without main directions, and such as differ by less than a code can tell."""
    monkeypatch.setattr(index, "_LEFT_OUT", left_out)
    monkeypatch.setattr(index, "_FIRST", 0)
    monkeypatch.setattr(products, "_ROWS_PER_PART", 2000)
    monkeypatch.setattr(products, "_cores", lambda: 3)
    generator = np.random.default_rng(6)
    vectors = generator.normal(size=(6000, 64))
    if kind == "nearly equal":
        vectors = vectors[generator.integers(0, 5, 6000)] + 0.003 * vectors
    if kind == "all in one part":
        vectors = vectors[np.argsort(-vectors[:, 0])]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    searched = TrackletIndex(vectors)
    for number in range(20):
        query = vectors[number] + 0.1 * generator.normal(size=64).astype(np.float32)
        query = (query / np.linalg.norm(query)).astype(np.float32)
        expected = brute_force(vectors, query, k, np.ones(6000, bool))
        rows, scores = searched.search(query, k)
        np.testing.assert_allclose(scores, expected[1], atol=1.5 * SCORE_STEP)
        assert rows.tolist() == expected[0].tolist()


@pytest.mark.gpu
def test_the_gpu_build_of_faiss_finds_the_same() -> None:
    """faiss-gpu replaces faiss-cpu where there is a GPU; the index itself stays on the processor."""
    import faiss

    assert faiss.get_num_gpus() > 0
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5000, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    query = vectors[7].astype(np.float32)
    found = TrackletIndex(vectors)
    for share in (None, 0.1):
        allowed = None if share is None else random.random(len(vectors)) < share
        rows, _ = found.search(query, 10, allowed)
        assert rows.tolist() == [row for row, _ in reference(vectors, query, 10, allowed)]
