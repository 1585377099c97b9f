"""A benchmark's image files as pixels. Files that cannot be read are left out and counted; too many are an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calr.datasets import DatasetError, Split

if TYPE_CHECKING:
    from torch import Tensor

MOST_UNREADABLE = 0.01
"""Share of a part's files that may be left out before its figures stop being comparable."""


class Files:
    """The files of a split as images, remembering which could not be read.

    Attributes:
        unreadable: (number, what is wrong) of those files, in the order they were met.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        self.unreadable: list[tuple[int, str]] = []

    def image(self, number: int) -> NDArray[np.uint8] | None:
        """(H, W, 3) uint8 BGR; None where the file cannot be read. May be called from several threads."""
        from models.images import ImageError, decode_image

        file = self._split.files[number]
        try:
            return decode_image(file.read_bytes(), what=str(file))
        except (OSError, ImageError) as error:
            self.unreadable.append((number, str(error)))
            return None

    def kept(self) -> tuple[NDArray[np.int64], Split]:
        """Numbers of the files that were read, and the split of those.

        Raises:
            DatasetError: more than `MOST_UNREADABLE` of the files were not; how many, and which ones first.
        """
        count, bad = len(self._split.files), sorted(self.unreadable)
        if len(bad) > MOST_UNREADABLE * count:
            raise DatasetError(
                f"{len(bad)} of {count} images in {self._split.files[0].parent} cannot be read: "
                + "; ".join(reason for _, reason in bad[:3])
                + ("; ..." if len(bad) > 3 else "")
            )
        numbers = np.setdiff1d(np.arange(count), [number for number, _ in bad]).astype(np.int64)
        return numbers, subset(self._split, numbers)


def subset(split: Split, numbers: NDArray[np.int64]) -> Split:
    """The images of those numbers."""
    return Split([split.files[i] for i in numbers], split.identities[numbers], split.cameras[numbers])


def read_split(
    split: Split,
    size: tuple[int, int],
    cache: Path | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tensor, Split]:
    """Pixels of a split's readable images, (n, 3, h, w) uint8 RGB, and the split of just those.

    Args:
        split: the images.
        size: (h, w).
        cache, on_step: as in `calr.training_set.decode_crops`.

    Raises:
        DatasetError: see `Files.kept`.
    """
    from calr.training_set import decode_crops

    files = Files(split)
    nothing = np.zeros((1, 1, 3), dtype=np.uint8)

    def image(number: int) -> NDArray[np.uint8]:
        found = files.image(number)
        return nothing if found is None else found

    pixels = decode_crops(image, len(split.files), size, cache, on_step)
    numbers, kept = files.kept()
    return (pixels if len(numbers) == len(pixels) else pixels[numbers]), kept


def left_out(asked: Sequence[Split], read: Sequence[Split]) -> dict[str, Any]:
    """{"unreadable": number of images left out}, or nothing where all were read."""
    missing = sum(len(a.files) for a in asked) - sum(len(r.files) for r in read)
    return {"unreadable": missing} if missing else {}
