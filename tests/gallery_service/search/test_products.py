"""Which rows are scanned: those that pass a filter, in runs, shared out among threads. Their products are tested with
the index."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.search.products import Rows


@st.composite
def masks(draw: st.DrawFn, count: int = 6000) -> np.ndarray:
    """Runs of rows that pass and that do not, of any lengths, single rows too."""
    lengths = draw(st.lists(st.integers(1, 10) | st.integers(1, 1000) | st.integers(1, count), min_size=1, max_size=40))
    if draw(st.booleans()):
        lengths *= 1 + 200 // len(lengths)  # many runs
    passes = (np.arange(len(lengths)) + draw(st.integers(0, 1))) % 2 == 1
    allowed = np.zeros(count, bool)
    given = np.repeat(passes, lengths)[:count]
    allowed[: len(given)] = given
    return allowed


@given(masks(), st.integers(1, 4), st.sampled_from([0.0, 0.25, 1.0]))
def test_runs_are_the_rows_that_pass(allowed: np.ndarray, parts: int, most: float) -> None:
    passing = np.flatnonzero(allowed)
    if not len(passing):
        return
    split = Rows.passing(allowed, len(passing), most).split(parts)
    rows = [
        np.arange(start, end) if part.numbers is None else part.numbers[start:end]
        for part in split
        for start, end in zip(part.starts, part.ends, strict=True)
    ]
    together = np.concatenate(rows)
    assert together.tolist() in (passing.tolist(), list(range(len(allowed))))
    assert len(together) == len(passing) or len(passing) > most * len(allowed)
    sizes = [int((part.ends - part.starts).sum()) for part in split]
    assert sizes == [part.size for part in split]
    assert max(sizes) - min(sizes) <= 1 or len(together) < parts
