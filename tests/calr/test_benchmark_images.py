"""Unreadable images of a benchmark are left out and counted; too many, or queries without an answer, are errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from calr.benchmark_images import Files, left_out, read_split
from calr.datasets import DatasetError, Split, load_benchmark


def split_of(folder: Path, count: int) -> Split:
    files = []
    for i in range(count):
        file = folder / f"{i % 7:04d}_c{i % 2 + 1}s1_{i:06d}_00.jpg"
        cv2.imwrite(str(file), np.full((16, 8, 3), 2 * i, np.uint8))
        files.append(file)
    return Split(files, np.arange(count) % 7, np.arange(count) % 2 + 1)


def test_a_few_are_left_out_and_counted(tmp_path: Path) -> None:
    split = split_of(tmp_path, 120)
    split.files[41].write_bytes(b"no image at all")
    images, read = read_split(split, (32, 16))
    assert len(images) == len(read.files) == 119
    assert split.files[41] not in read.files
    assert images[41].float().mean().item() == pytest.approx(84, abs=2), "what follows keeps its place"
    assert read.identities[41] == 42 % 7 and read.cameras[41] == 42 % 2 + 1
    assert left_out([split], [read]) == {"unreadable": 1} and left_out([read], [read]) == {}


def test_more_than_a_few_stop_it_and_are_named(tmp_path: Path) -> None:
    split = split_of(tmp_path, 120)
    split.files[3].write_bytes(b"")
    split.files[7].unlink()
    with pytest.raises(DatasetError, match=r"2 of 120 images in .* cannot be read: .*0003_c2.*0000_c2"):
        read_split(split, (32, 16))
    files = Files(split)
    assert files.image(3) is None and files.image(4) is not None


def test_the_command_says_it_in_a_line(market: Path, tmp_path: Path) -> None:
    from tests.calr.test_benchmark import invoke

    root = tmp_path / "broken"
    shutil.copytree(market, root)
    victim = next((root / "query").glob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:40])
    code, out, err = invoke(root, tmp_path, "--row", "direct")
    assert code == 1 and out == "" and "1 of 8 images" in err and victim.name in err


def test_a_query_set_without_positives_is_an_error(market: Path, tmp_path: Path) -> None:
    from tests.calr.test_benchmark import invoke

    root = tmp_path / "strangers"
    shutil.copytree(market, root)
    for file in (root / "query").glob("*.jpg"):
        file.rename(file.with_name(file.name.replace("00", "90", 1)))
    assert len(set(load_benchmark("market1501", root).query.identities)) == 4
    code, out, err = invoke(root, tmp_path, "--row", "direct")
    assert code == 1 and out == "" and "no query has a positive in the gallery" in err
