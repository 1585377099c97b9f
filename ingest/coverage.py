"""What a camera's recordings cover, and what they leave open."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

Span = tuple[datetime, datetime]

SEAM = timedelta(seconds=2)
"""Recorders lose a moment between two files; that is no gap."""


def covered(spans: Iterable[Span]) -> list[Span]:
    """Spans of time (begin, end) put together where they overlap or nearly touch, in order."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1] + SEAM:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def gaps(merged: list[Span]) -> list[Span]:
    """What lies between spans that are in order and do not touch."""
    return [(one[1], other[0]) for one, other in pairwise(merged)]


def timeline(merged: list[Span], whole: Span, cells: int) -> list[float]:
    """How much of each of `cells` equal parts of `whole` is covered, 0..1."""
    begin, end = whole
    width = max((end - begin).total_seconds(), 1e-6) / cells
    shares = [0.0] * cells
    for one, other in merged:
        first, last = ((moment - begin).total_seconds() / width for moment in (one, other))
        for cell in range(max(0, int(first)), min(cells, int(last) + 1)):
            shares[cell] += max(0.0, min(last, cell + 1) - max(first, cell))
    return [min(1.0, share) for share in shares]
