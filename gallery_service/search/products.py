"""Inner products of a query with some of many coded vectors, by FAISS.

Not by an index of its, but by the scanner inside that, which reads vectors where they lie.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Highest = tuple[NDArray[np.float32], NDArray[np.int64], float]
"""Products, the highest first, their rows, and what no other row's product exceeds."""

# Rows that are copied to be scanned: in blocks of so many, whose memory is used again and stays in the cache.
_BLOCK = 16_384
# Runs of rows are scanned where they lie if they are that long on average; else the rows' codes are copied.
_RUN = 128
# A thread for each core, if it is worth it to wake one.
_ROWS_PER_PART = 150_000


class Rows(NamedTuple):
    """Some rows of the index, in runs.

    Attributes:
        size: how many they are.
        starts, ends: int64 (R,), of the runs.
        numbers: int64, the rows, in which the runs lie; None where they lie in the index itself.
    """

    size: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    numbers: NDArray[np.int64] | None = None

    @classmethod
    def all(cls, count: int) -> Rows:
        """All of so many."""
        return cls(count, np.array([0]), np.array([count]))

    @classmethod
    def passing(cls, allowed: NDArray[np.bool_], count: int, most: float = 1.0) -> Rows:
        """The allowed rows; if these are scattered and more than a share `most`, all.

        Args:
            allowed: bool (N,), not all of them False.
            count: how many of them are True.
        """
        changes = allowed[1:] != allowed[:-1]
        if np.count_nonzero(changes) * _RUN <= 2 * count:
            edges = np.flatnonzero(changes) + 1
            edges = np.concatenate([np.zeros(int(allowed[0]), np.int64), edges])
            ends = np.append(edges[1::2], len(allowed)) if len(edges) % 2 else edges[1::2]
            return cls(count, edges[::2], ends)
        if count > most * len(allowed):
            return cls.all(len(allowed))
        return cls.listed(np.flatnonzero(allowed))

    @classmethod
    def listed(cls, numbers: NDArray[np.int64]) -> Rows:
        """Those with these numbers, which may be in any order."""
        starts = np.arange(0, len(numbers), _BLOCK)
        return cls(len(numbers), starts, np.minimum(starts + _BLOCK, len(numbers)), numbers)

    def split(self, parts: int) -> list[Rows]:
        """The same rows in parts of about as many."""
        if parts == 1:
            return [self]
        passed = np.cumsum(self.ends - self.starts)  # where runs end, counted among these rows as the cuts are
        cuts = [self.size * part // parts for part in range(parts + 1)]
        split = []
        for begin, end in pairwise(cuts):
            first, last = np.searchsorted(passed, [begin + 1, end])
            starts, ends = self.starts[first : last + 1].copy(), self.ends[first : last + 1].copy()
            starts[0] = self.ends[first] - (passed[first] - begin)
            ends[-1] -= passed[last] - end
            split.append(Rows(end - begin, starts, ends, self.numbers))
        return split


class Products:
    """Products of a query with coded vectors, by FAISS. Not by its index, but by the scanner inside that, which reads
    any of them where they lie and keeps one heap for all.

    Args:
        codes: uint8 (N, bytes of a vector).
        quantizer: FAISS', of the coding.
    """

    def __init__(self, codes: NDArray[np.uint8], quantizer: Any) -> None:
        assert codes.shape[1] == quantizer.code_size and codes.flags.c_contiguous
        self._codes, self._quantizer = codes, quantizer

    def highest(self, query: NDArray[np.float32], k: int, rows: Rows, least: float = -np.inf) -> Highest:
        """The k highest products, and more, with some rows; only those above `least`."""
        first, *others = rows.split(max(1, min(_cores(), rows.size // _ROWS_PER_PART)))
        rest = [_pool().submit(self._scan, query, k, part, least) for part in others]
        return _merged([self._scan(query, k, first, least), *(part.result() for part in rest)])

    def _scan(self, query: NDArray[np.float32], k: int, rows: Rows, least: float) -> Highest:
        faiss = _faiss()
        # The heap: what is not above its lowest product is passed over.
        products, places = np.full(k, least, np.float32), np.full(k, -1, np.int64)
        heap = faiss.swig_ptr(products), faiss.swig_ptr(places), k
        scanner = self._quantizer.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, None, True, None, False)
        scanner.set_query(faiss.swig_ptr(query))
        for run, (start, end) in enumerate(zip(rows.starts.tolist(), rows.ends.tolist(), strict=True)):
            codes = self._codes[start:end] if rows.numbers is None else self._codes.take(rows.numbers[start:end], 0)
            scanner.set_list(run, 0.0)
            scanner.scan_codes(end - start, faiss.swig_ptr(codes), None, *heap)
        # Nobody owns it. (With scanner.thisown = True, FAISS 1.15 forgets its classes when it goes.)
        scanner.__swig_destroy__(scanner)
        next_product = float(products.min())
        filled = np.flatnonzero(places >= 0)
        order = filled[np.argsort(-products[filled])]
        products, places = products[order], places[order]
        # The upper half is the run, the lower the place in it.
        found = rows.starts[places >> 32] + (places & 0xFFFFFFFF)
        return products, found if rows.numbers is None else rows.numbers[found], next_product


def signed_bytes(length: int) -> Any:
    """Numbers from -127 to 127, each stored in a byte with 128 added, for queries of such numbers only: their products
    are computed with integers, in half the time where there is no AVX-512."""
    return _faiss().ScalarQuantizer(length, _faiss().ScalarQuantizer.QT_8bit_direct_signed)


def halves(length: int) -> Any:
    """The coding of float16 vectors, as they are."""
    return _faiss().ScalarQuantizer(length, _faiss().ScalarQuantizer.QT_fp16)


def _merged(found: list[Highest]) -> Highest:
    if len(found) == 1:
        return found[0]
    products = np.concatenate([products for products, _, _ in found])
    order = np.argsort(-products)
    return products[order], np.concatenate([rows for _, rows, _ in found])[order], max(last for _, _, last in found)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), "search")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _faiss() -> Any:
    # Its type stubs describe the C++ side, not the arrays its Python side takes.
    import faiss

    return faiss
