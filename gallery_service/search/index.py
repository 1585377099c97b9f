"""Exact search over tracklet vectors, with the filters inside it.

Filter and refine: every vector has a short code from which FAISS computes an upper bound of its cosine, quickly; the
rows with the highest bounds are scored from the vectors themselves, until no other row's bound reaches the k best. So
the answer is that of brute force, at every size and under every filter; a hard query takes longer, it does not lose
hits. (The lower-bounding lemma of Faloutsos, Ranganathan and Manolopoulos, 1994, for inner products.)

The code is the projection of a vector x on its main directions P (principal components), in 8 bits each, and the length
of what the projection leaves out. With c the decoded projection, by Cauchy-Schwarz twice,

    q·x  ≤  Pq·c + |q − PᵀPq| · |x − PᵀPx|  +  |Pq| · |Px − c|

The first two terms are one inner product of the query with the code; the last is at most the largest error of any code.

That product is one of integers, of the codes and the query's numbers in steps of u:

    |u·⟨k, c⟩ − ⟨q, c⟩|  ≤  |q − u·k| · |c|

where k may be as large as 127. What the large numbers of a query need would make u coarse for all, so directions that
weigh most are in the code more than once, and the query's number is shared out among them.

The index is a cache in memory, made from the segments in seconds; nothing of it is stored.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallery_service.search.products import Products, Rows, halves, signed_bytes

# Inner products of the same vectors may differ in the last bits with where they lie in memory: scores closer than this
# are one score.
SCORE_STEP = 1e-6

# Directions are added until they leave out less than this share of the vectors' energy: with more, codes get long; with
# fewer, bounds get loose.
_LEFT_OUT = 0.1
# Codes of one byte less than a multiple of this, and one for the length left out, suit FAISS' kernels.
_CODE_STEP = 16
# At least so many places of a code are left for numbers that are in it more than once.
_SPARE = 8
_SAMPLE = 50_000
_BLOCK = 16_384
# How many of the highest bounds are looked at first: so many, as many for each hit, and one for so many rows; for fewer
# where codes must be copied, since a second look costs more there.
# If they do not suffice, all that could matter are looked at, up to so many times more.
_FIRST = 64
_PER_HIT = 4
_ROWS_FOR_ONE = 1500
_COPIED_FOR_ONE = 64
_MORE = 64
# Up to this share of the rows it is faster to copy the codes of those that pass than to scan all.
_MANY = 0.25
# Of a step of a query, which may be 0.
_SMALLEST = 1e-30


class TrackletIndex:
    """Inner-product search over all vectors, exact.

    Args:
        vectors: float16 (N, D), of length 1 at most; kept as they are. Row order is the order among equal scores.
    """

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        self.dim = int(vectors.shape[1])
        self._vectors = vectors
        directions = _principal_directions(vectors)
        codes, self._step, self._repeats, self._error, self._longest = _encode(vectors, directions)
        self._directions = directions.astype(np.float64)
        self._bounds = Products(codes, signed_bytes(codes.shape[1]))
        self._products = Products(vectors.view(np.uint8), halves(self.dim))

    def __len__(self) -> int:
        return len(self._vectors)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, float32 (len(rows), D)."""
        return self._vectors[rows].astype(np.float32)

    def search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k best allowed rows, exactly.

        Args:
            query: float32 (D,), L2-normalised.
            k: at most this many.
            allowed: bool (N,), rows that may be found; None: all.

        Returns:
            rows int64 and their cosines float64 (steps of `SCORE_STEP`), best first, the lower row first among equals.
            Fewer than k when fewer are allowed.
        """
        total = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if min(k, total) <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        exact = query.astype(np.float64)
        coded, unit, slack = self._coded_query(exact)
        if total <= 2 * (_FIRST + _PER_HIT * k):  # not worth it
            rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
            return self._refine(exact, k, rows, np.full(total, np.inf))
        # Where many rows pass, scattered, all are scanned, and what does not pass is dropped.
        some = Rows.all(len(self)) if allowed is None else Rows.passing(allowed, total, _MANY)
        rows_for_one = _ROWS_FOR_ONE if some.numbers is None else _COPIED_FOR_ONE
        wanted = (_FIRST + _PER_HIT * k + some.size // rows_for_one) * some.size // total
        least = -np.inf
        while True:
            wanted = min(wanted, some.size)
            products, rows, next_product = self._bounds.highest(coded, wanted, some, least)
            reach = unit * products.astype(np.float64) + slack
            if allowed is not None and some.size > total:
                reach, rows = reach[allowed[rows]], rows[allowed[rows]]
            best, scores = self._refine(exact, k, rows, reach)
            if len(best) == k and scores[-1] > -1.0:  # products below -1 are cosines of -1
                # A row that was not looked at could at most tie with the last: then it matters which row is lower.
                least = float(np.nextafter(np.float32((scores[-1] - slack - SCORE_STEP) / unit), np.float32(-np.inf)))
            if next_product <= least or wanted == some.size:
                return best, scores
            wanted *= _MORE

    def nearly(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """About the k best allowed rows: those with the k highest bounds. For many rows of which no single one matters:
        with k in the hundreds as fast as `search` with k = 10, which then takes ten times longer.

        Arguments and result as in `search`; the cosines are exact.
        """
        exact = query.astype(np.float64)
        coded, _, _ = self._coded_query(exact)
        total = len(self) if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, total)
        if k <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        some = Rows.all(len(self)) if allowed is None else Rows.passing(allowed, total)
        rows = self._bounds.highest(coded, k, some)[1][:k]
        return self._refine(exact, k, rows, np.full(k, np.inf))

    def cosines(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The cosines of some rows as `search` has them, float64 (len(rows),)."""
        return self._cosines(query.astype(np.float64), rows)

    def _coded_query(self, query: NDArray[np.float64]) -> tuple[NDArray[np.float32], float, float]:
        """The query to multiply codes with, whole numbers; what a step of the product is worth; and what to add then so
        that it is an upper bound of the cosine."""
        # Not by BLAS, which wakes all cores for so little.
        projected = np.einsum("i,ij->j", query, self._directions)
        left_out = np.sqrt(max(0.0, float(query @ query - projected @ projected)))
        coded = np.append(projected, left_out) * self._step
        unit = max(float(np.max(np.abs(coded) / self._repeats)) / 127, _SMALLEST)
        whole = np.rint(coded / unit)
        slack = float(np.linalg.norm(projected) * self._error) + self._rounding(query)
        slack += float(np.linalg.norm(coded - unit * whole)) * self._longest
        return _shared_out(whole, self._repeats), unit, slack

    def _rounding(self, query: NDArray[np.float64]) -> float:
        """How far float32 arithmetic may be off, generously."""
        return float(self.dim * 2.0**-22 * np.linalg.norm(query))

    def _refine(
        self, query: NDArray[np.float64], k: int, rows: NDArray[np.int64], reach: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k best of some rows: first by float32 products, then exactly those that could be among them.

        Args:
            reach: (len(rows),) upper bounds of their cosines, the highest first.
        """
        single, margin = query.astype(np.float32), 2 * self._rounding(query) + SCORE_STEP
        best, about, least = np.empty(0, np.int64), np.empty(0, np.float32), -np.inf
        size = max(64, 2 * k)  # few at first: their products rule out most of the others
        while len(rows):
            some, rows, reach = rows[:size], rows[size:], reach[size:]
            products, some, _ = self._products.highest(single, len(some), Rows.listed(some), least)
            best, about = np.append(best, some), np.append(about, products)
            if len(best) >= k:
                # Products above 1 are cosines of 1.
                least = min(1.0, float(np.partition(about, -k)[-k])) - margin
                least = least if least > -1.0 else -np.inf  # as products below -1 are of -1
                best, about = best[about >= least], about[about >= least]
                rows = rows[: np.searchsorted(-reach, -least, side="right")]
            size = min(4 * size, _BLOCK)
        scores = self._cosines(query, best)
        order = np.lexsort((best, -scores))[:k]
        return best[order], scores[order]

    def _cosines(self, query: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        # In one fixed order of additions, so that equal vectors have equal scores.
        products = (self._vectors[rows].astype(np.float64) * query).sum(axis=1)
        cosines: NDArray[np.float64] = np.clip(np.round(products / SCORE_STEP) * SCORE_STEP, -1.0, 1.0)
        return cosines


def _principal_directions(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Orthonormal directions that hold most of the vectors' energy, (D, d)."""
    sample = vectors[:: len(vectors) // _SAMPLE + 1].astype(np.float32)
    energy, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    energy, directions = energy[::-1].clip(min=0), directions[:, ::-1]
    left_out = np.append(np.cumsum(energy[::-1])[::-1][1:], 0.0)  # by the first, the first two, …, all
    enough = int(np.argmax(left_out <= _LEFT_OUT * energy.sum())) + 1
    count = min(-(-(enough + 1) // _CODE_STEP) * _CODE_STEP - 1, vectors.shape[1])
    return np.ascontiguousarray(directions[:, :count], np.float32)


class _Code(NamedTuple):
    """What stands for the vectors.

    Attributes:
        bytes: uint8 (N, places), numbers from -127 to 127, stored with 128 added.
        step: float64 (d + 1,), what one step of each number is worth.
        repeats: int64 (d + 1,), in how many places it stands.
        error: the largest length of what rounding a projection leaves out.
        longest: the largest length of the numbers of a vector, each once.
    """

    bytes: NDArray[np.uint8]
    step: NDArray[np.float64]
    repeats: NDArray[np.int64]
    error: float
    longest: float


def _encode(vectors: NDArray[np.floating[Any]], directions: NDArray[np.float32]) -> _Code:
    count = directions.shape[1]
    largest = np.zeros(count + 1, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        np.maximum(largest, np.abs(_project(vectors[start : start + _BLOCK], directions)).max(axis=0), out=largest)
    step = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    repeats = _repeats(_project(vectors[:: len(vectors) // _BLOCK + 1], directions), step)
    codes = np.empty((len(vectors), int(repeats.sum())), np.uint8)
    error = longest = 0.0
    for start in range(0, len(vectors), _BLOCK):
        numbers = _project(vectors[start : start + _BLOCK], directions)
        whole = numbers / step
        np.rint(whole[:, :count], out=whole[:, :count])
        np.ceil(whole[:, count], out=whole[:, count])  # a bound is never rounded down
        np.clip(whole, -127, 127, out=whole)
        codes[start : start + _BLOCK] = np.repeat((whole + 128).astype(np.uint8), repeats, axis=1)
        missed = numbers[:, :count] - whole[:, :count] * step[:count]
        error = max(error, float(np.sqrt(np.einsum("ij,ij->i", missed, missed).max())))
        longest = max(longest, float(np.sqrt(np.einsum("ij,ij->i", whole, whole).max())))
    return _Code(codes, step.astype(np.float64), repeats, error, longest)


def _repeats(sample: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.int64]:
    """In how many places each number stands, so that what a query has for a place is about as large in each.

    Args:
        sample: (n, d + 1), numbers of vectors, which queries look like.
        step: see `_Code`.
    """
    weight = np.sqrt(np.mean(np.square(sample), axis=0, dtype=np.float64)) * step if len(sample) else step
    repeats = np.ones(len(step), np.int64)
    for _ in range(-(len(step) + _SPARE) % _CODE_STEP + _SPARE):
        repeats[np.argmax(weight / repeats)] += 1
    return repeats


def _shared_out(whole: NDArray[np.float64], repeats: NDArray[np.int64]) -> NDArray[np.float32]:
    """Whole numbers, each as a sum of as many as it has places, none of which is larger than need be."""
    before = np.cumsum(repeats) - repeats
    place = np.arange(int(repeats.sum())) - np.repeat(before, repeats)
    size, sign = np.repeat(np.abs(whole), repeats), np.repeat(np.sign(whole), repeats)
    of = np.repeat(repeats, repeats)
    shares: NDArray[np.float32] = (sign * ((size + place) // of)).astype(np.float32)
    return shares


def _project(vectors: NDArray[np.floating[Any]], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Projections of vectors and the length of what these leave out, never less than it is, (n, d + 1)."""
    exact = vectors.astype(np.float32)
    projected = exact @ directions
    squares = np.einsum("ij,ij->i", exact, exact) - np.einsum("ij,ij->i", projected, projected)
    # float32 squares that cancel are wrong by 1e-6.
    return np.column_stack([projected, np.sqrt(squares.clip(min=0) + 1e-5)])
