"""Benchmarks on disk, as lists of images with identity and camera."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class DatasetError(ValueError):
    """The folder does not hold the data set that was named."""


@dataclass(frozen=True)
class Split:
    """Images of one part of a data set: `files`, and (n,) int64 `identities` and `cameras`."""

    files: list[Path]
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]


@dataclass(frozen=True)
class Benchmark:
    """The three parts that re-identification benchmarks share; training identities are for judging clusters only."""

    train: Split
    query: Split
    gallery: Split


_MARKET_NAME = re.compile(r"([-\d]+)_c(\d)")


def market1501(root: Path) -> Benchmark:
    """Market-1501 (Zheng et al., ICCV 2015).

    Identity −1 (junk) is dropped; identity 0 stays in the gallery as a distractor, as the field does.

    Raises:
        DatasetError: a folder is missing, or holds no image of that naming.
    """
    nested = root / "Market-1501-v15.09.15"
    root = nested if nested.is_dir() else root
    return Benchmark(
        train=_market_split(root / "bounding_box_train"),
        query=_market_split(root / "query"),
        gallery=_market_split(root / "bounding_box_test"),
    )


def _market_split(folder: Path) -> Split:
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is missing: --root must be the folder that holds bounding_box_train, query and bounding_box_test"
        )
    files, identities, cameras = [], [], []
    for file in sorted(folder.glob("*.jpg")):
        named = _MARKET_NAME.match(file.name)
        if named and int(named[1]) != -1:
            files.append(file)
            identities.append(int(named[1]))
            cameras.append(int(named[2]))
    if not files:
        raise DatasetError(f"{folder} holds no file named like 0002_c1s1_000451_03.jpg: is this Market-1501?")
    return Split(files, np.asarray(identities, np.int64), np.asarray(cameras, np.int64))


DATASETS = {"market1501": market1501}
