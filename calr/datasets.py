"""Re-identification benchmarks on disk, as lists of images with identity and camera.

| name | published by | training / query / gallery images | cameras |
|---|---|---|---|
| market1501 | Zheng et al., ICCV 2015 | 12,936 / 3,368 / 15,913 | 6 |
| dukemtmc | Zheng et al., ICCV 2017; withdrawn by the authors of its videos in 2019, read only for those who have it | 16,522 / 2,228 / 17,661 | 8 |
| msmt17 | Wei et al., CVPR 2018, V1 and V2 | 32,621 / 11,659 / 82,161 | 15 |
| veri776 | Liu et al., ECCV 2016 (vehicles) | 37,778 / 1,678 / 11,579 | 20 |
| personx | Sun and Zheng, CVPR 2019 (rendered) | 9,840 / 5,136 / 30,816 | 6 |
"""  # noqa: E501 a table

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

JUNK = -1
"""Identity of images that the evaluation protocol leaves out altogether (Market-1501's -1)."""


class DatasetError(ValueError):
    """The folder does not hold the data set that was named."""


@dataclass(frozen=True)
class Split:
    """Images of one part of a data set: `files`, and (n,) int64 `identities` and `cameras`."""

    files: list[Path]
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]

    def counts(self) -> dict[str, int]:
        """images, identities and cameras, as papers list them."""
        return {
            "images": len(self.files),
            "identities": len(np.unique(self.identities)),
            "cameras": len(np.unique(self.cameras)),
        }


@dataclass(frozen=True)
class Benchmark:
    """The three parts that re-identification benchmarks share; training identities are for judging clusters only.
    `input_size` is (height, width) as the field has it for these images."""

    train: Split
    query: Split
    gallery: Split
    input_size: tuple[int, int] = (256, 128)


def load_benchmark(name: str, root: Path) -> Benchmark:
    """A benchmark by name; the module lists them.

    Args:
        name: of the data set.
        root: the folder that holds its parts, or the one it was unpacked into.

    Raises:
        DatasetError: unknown name, a part is missing, or files in it are named otherwise.
    """
    if name not in DATASETS:
        raise DatasetError(f"unknown data set '{name}': known are {', '.join(sorted(DATASETS))}")
    return DATASETS[name](root)


Read = Callable[[Path], tuple[int, int] | None]
"""File -> (identity, camera), or None when it is named otherwise."""


def _named(pattern: str) -> Read:
    compiled = re.compile(pattern)

    def read(file: Path) -> tuple[int, int] | None:
        found = compiled.match(file.name)
        return (int(found[1]), int(found[2])) if found else None

    return read


def _folders(
    train: str, query: str, gallery: str, read: Read, unpacked_as: str, input_size: tuple[int, int] = (256, 128)
) -> Callable[[Path], Benchmark]:
    def load(root: Path) -> Benchmark:
        nested = root / unpacked_as
        root = nested if nested.is_dir() else root
        parts = [root / part for part in (train, query, gallery)]
        for part in parts:
            if not part.is_dir():
                raise DatasetError(
                    f"{part} is missing: --root must be the folder that holds {train}, {query}, {gallery}"
                )
        first, second, third = (_split(sorted(part.glob("*.jpg")), read, part) for part in parts)
        return Benchmark(first, second, third, input_size)

    return load


def _split(files: Iterable[Path], read: Read, where: Path) -> Split:
    kept, identities, cameras, odd = [], [], [], []
    for file in files:
        named = read(file)
        if named is None:
            odd.append(file.name)
        elif named[0] != JUNK:
            kept.append(file)
            identities.append(named[0])
            cameras.append(named[1])
    if odd:
        names = ", ".join(odd[:3]) + (", ..." if len(odd) > 3 else "")
        raise DatasetError(
            f"{where}: {len(odd)} file names give no identity and camera ({names}); is this that data set?"
        )
    if not kept:
        raise DatasetError(f"{where} holds no image")
    return Split(kept, np.asarray(identities, np.int64), np.asarray(cameras, np.int64))


def _msmt17(root: Path) -> Benchmark:
    """Lists of images say what belongs where; the camera is the third field of a name. As papers do, the validation
    part joins the training part."""
    for unpacked_as in ("MSMT17_V1", "MSMT17_V2", "MSMT17"):
        if (root / unpacked_as).is_dir():
            root = root / unpacked_as
            break
    folders = next(
        (pair for pair in (("train", "test"), ("mask_train_v2", "mask_test_v2")) if (root / pair[0]).is_dir()), None
    )
    if folders is None:
        raise DatasetError(f"{root} holds neither train (V1) nor mask_train_v2 (V2): --root must be MSMT17's folder")
    train, test = root / folders[0], root / folders[1]

    def listed(names: list[str], folder: Path) -> Split:
        files, identities, cameras = [], [], []
        for name in names:
            path = root / name
            if not path.is_file():
                raise DatasetError(f"{path} is missing: MSMT17's lists say which image belongs where")
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                file, _, identity = line.strip().rpartition(" ")
                fields = Path(file).name.split("_")
                if len(fields) < 4 or not fields[2].isdigit() or not identity.isdigit():
                    raise DatasetError(f"{path}, line {number}: not an image with camera and identity: {line[:80]!r}")
                files.append(folder / file)
                identities.append(int(identity))
                cameras.append(int(fields[2]))
        if not files:
            raise DatasetError(f"{root / names[0]} lists no image")
        return Split(files, np.asarray(identities, np.int64), np.asarray(cameras, np.int64))

    return Benchmark(
        train=listed(["list_train.txt", "list_val.txt"], train),
        query=listed(["list_query.txt"], test),
        gallery=listed(["list_gallery.txt"], test),
    )


_MARKET = ("bounding_box_train", "query", "bounding_box_test")

# Market-1501: -1 is junk and dropped; 0 stays in the gallery as a distractor, as the field does.
DATASETS: dict[str, Callable[[Path], Benchmark]] = {
    "market1501": _folders(*_MARKET, _named(r"([-\d]+)_c(\d)"), "Market-1501-v15.09.15"),
    "dukemtmc": _folders(*_MARKET, _named(r"([-\d]+)_c(\d)"), "DukeMTMC-reID"),
    "msmt17": _msmt17,
    "veri776": _folders(
        "image_train", "image_query", "image_test", _named(r"(\d+)_c(\d{3})_"), "VeRi", input_size=(224, 224)
    ),
    "personx": _folders(*_MARKET, _named(r"([-\d]+)_c(\d+)"), "PersonX"),
}
