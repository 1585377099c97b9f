"""A picture of queries and their best matches, for people who would rather look than read a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

GREEN, RED, GREY, INK, PAPER = (80, 170, 40), (60, 60, 210), (170, 170, 170), (40, 40, 40), (255, 255, 255)
CROP_H, CROP_W, MARGIN, CAPTION, FRAME = 160, 80, 14, 18, 5


@dataclass(frozen=True)
class Row:
    """One query and its ranked answers, as tracklet indices; `right` is None where nobody knows the truth."""

    query: int
    matches: list[int]
    scores: list[float]
    right: list[bool] | None


def pick_rows(vectors: Floats, cameras: Ids, identities: Ids | None, *, queries: int, top: int, seed: int) -> list[Row]:
    """Choose queries at random (seeded) and rank the other cameras' tracklets for each.

    Args:
        vectors: (tracklets, D), normalised.
        cameras: (tracklets,).
        identities: (tracklets,) true person or −1, or None. With truth, only queries with a right answer are drawn.
        queries: at most so many rows. top: matches per row.
    """
    other = cameras[:, None] != cameras[None, :]
    askable = other.any(axis=1)
    if identities is not None:
        askable &= (other & (identities[:, None] == identities[None, :]) & (identities[:, None] >= 0)).any(axis=1)
    candidates = np.flatnonzero(askable)
    chosen = np.sort(np.random.default_rng(seed).permutation(candidates)[:queries])
    rows = []
    for query in chosen:
        similarity = np.where(other[query], vectors @ vectors[query], -np.inf)
        order = np.argsort(-similarity, kind="stable")[:top]
        order = order[np.isfinite(similarity[order])]
        right = None if identities is None else [bool(identities[m] == identities[query]) for m in order]
        rows.append(Row(int(query), [int(m) for m in order], [float(similarity[m]) for m in order], right))
    return rows


def draw_contact_sheet(
    rows: Sequence[Row], picture_of: Callable[[int], Image], camera_of: Callable[[int], str], title: str
) -> Image:
    """Paint the rows: the query at the left, its matches by falling score; green frame = right, red = wrong.

    Args:
        picture_of: tracklet index → BGR crop. camera_of: tracklet index → camera name.
        title: one line above the rows.

    Returns:
        BGR uint8 image.
    """
    import cv2

    columns = 1 + max((len(row.matches) for row in rows), default=0)
    cell_w, cell_h = CROP_W + 2 * FRAME + MARGIN, CROP_H + 2 * FRAME + CAPTION + MARGIN
    half = (len(rows) + 1) // 2 if len(rows) > 10 else len(rows)  # two blocks side by side read better than a tower
    blocks = 2 if half < len(rows) else 1
    block_w = columns * cell_w + 2 * MARGIN
    sheet: Image = np.full((half * cell_h + 3 * MARGIN + CAPTION, blocks * block_w, 3), 255, np.uint8)

    def write(text: str, x: int, y: int, scale: float = 0.38) -> None:
        cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)

    def place(tracklet: int, x: int, y: int, colour: tuple[int, int, int], caption: str) -> None:
        cv2.rectangle(sheet, (x, y), (x + CROP_W + 2 * FRAME - 1, y + CROP_H + 2 * FRAME - 1), colour, -1)
        crop = cv2.resize(picture_of(tracklet), (CROP_W, CROP_H), interpolation=cv2.INTER_AREA)
        sheet[y + FRAME : y + FRAME + CROP_H, x + FRAME : x + FRAME + CROP_W] = crop
        write(caption, x, y + CROP_H + 2 * FRAME + CAPTION - 5)

    write(title, MARGIN, MARGIN + 8, 0.5)
    for number, row in enumerate(rows):
        left = (number // half) * block_w + MARGIN
        top = 2 * MARGIN + CAPTION + (number % half) * cell_h
        place(row.query, left, top, INK, f"{number + 1}: {camera_of(row.query)}"[:14])
        for column, (match, score) in enumerate(zip(row.matches, row.scores, strict=True)):
            colour = GREY if row.right is None else GREEN if row.right[column] else RED
            place(match, left + MARGIN + (column + 1) * cell_w, top, colour, f"{camera_of(match)[:8]} {score:.2f}")
    return sheet
