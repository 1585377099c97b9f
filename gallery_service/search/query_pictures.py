"""What a search looks for: one or several pictures of one person, each perhaps only in a part of it.

Several crops of a person say more than one: their embeddings are averaged and the mean scaled to length 1, as a
tracklet's crops are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import BadQuery
from gallery_service.storage.segments import tracklet_means

if TYPE_CHECKING:
    from models.embedder import Embedder

MAX_PICTURES = 8

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in fractions of the upright picture."""


@dataclass(frozen=True)
class QueryPicture:
    """A picture to search with.

    Attributes:
        content: a JPEG, PNG, WebP or BMP file, not trusted.
        box: the part of it that shows the person; None: all of it.
    """

    content: bytes
    box: Box | None = None

    @property
    def fingerprint(self) -> str:
        """For the record: the file's sha256, and the box where there is one."""
        digest = hashlib.sha256(self.content).hexdigest()
        return digest if self.box is None else f"{digest}#box={','.join(f'{side:g}' for side in self.box)}"

    def pixels(self, what: str, max_pixels: int) -> NDArray[np.uint8]:
        """The part to look at, (H, W, 3) uint8 BGR; at least one pixel.

        Args:
            what: how an error names the picture.
            max_pixels: of the whole picture.

        Raises:
            ImageError: it is no image that is accepted.
        """
        from models.images import decode_image

        whole = decode_image(self.content, what=what, max_pixels=max_pixels)
        if self.box is None:
            return whole
        height, width = whole.shape[:2]
        left, top = math.floor(self.box[0] * width), math.floor(self.box[1] * height)
        right, bottom = math.ceil(self.box[2] * width), math.ceil(self.box[3] * height)
        # A copy, so that a whole frame is not kept for a small part of it.
        return whole[top:bottom, left:right].copy()


def parse_boxes(given: Sequence[str], pictures: int) -> list[Box | None]:
    """Boxes as a client writes them.

    Args:
        given: "x1,y1,x2,y2" in fractions of the upright picture, one per picture; empty for a whole one. None at all:
            all pictures are whole.
        pictures: how many there are.

    Returns:
        One entry per picture.

    Raises:
        BadQuery: there are more or fewer boxes than pictures, or one is no box.
    """
    if not given:
        return [None] * pictures
    if len(given) != pictures:
        raise BadQuery(f"box: {len(given)} for {pictures} images; give one for each, an empty one for a whole image")
    return [_box(text) if text.strip() else None for text in given]


def embed_person(
    embedder: Embedder,
    pictures: Sequence[QueryPicture],
    what: str,
    max_pixels: int,
    timed: Callable[[str], AbstractContextManager[None]] = lambda stage: nullcontext(),
) -> NDArray[np.float32]:
    """One vector for one person.

    Args:
        embedder: the model.
        pictures: at least one.
        what: how an error names the picture; which one is added when there are several.
        max_pixels: of one picture.
        timed: entered round each picture's "decode" and "embed".

    Returns:
        float32 (D,), length 1.

    Raises:
        ImageError: a picture is no image that is accepted.
    """
    vectors = np.empty((len(pictures), embedder.dim), np.float32)
    for number, picture in enumerate(pictures):
        # One after the other: decoded pictures are large, and how many are in memory must not be the client's choice.
        name = what if len(pictures) == 1 else f"{what} (number {number + 1})"
        with timed("decode"):
            pixels = picture.pixels(name, max_pixels)
        with timed("embed"):
            vectors[number] = embedder.embed([pixels])[0]
    one = np.zeros(len(pictures), np.int32)
    person: NDArray[np.float32] = vectors[0] if len(pictures) == 1 else tracklet_means(vectors, one, 1)[0]
    return person


def _box(text: str) -> Box:
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
        good = 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
    except ValueError:
        good = False
    if not good:
        raise BadQuery(
            f"box: {text[:60]!r} is not a part of a picture; write x1,y1,x2,y2 as fractions from 0 to 1, with x1 < x2 "
            "and y1 < y2"
        )
    return x1, y1, x2, y2
