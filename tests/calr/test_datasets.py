"""Every layout on a small generated tree, and what is said of folders that hold something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from calr.datasets import DatasetError, Split, load_benchmark


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def triples(split: Split) -> list[tuple[str, int, int]]:
    return [
        (file.name, identity, camera)
        for file, identity, camera in zip(split.files, split.identities.tolist(), split.cameras.tolist(), strict=True)
    ]


def market_like(root: Path) -> None:
    touch(root / "bounding_box_train", "0002_c1s1_000451_03.jpg", "0007_c6s3_077467_01.jpg")
    touch(root / "query", "0001_c1s1_001051_00.jpg")
    touch(
        root / "bounding_box_test",
        "-1_c2s1_000401_03.jpg",
        "0000_c3s1_000551_00.jpg",
        "0001_c2s1_001051_00.jpg",
        "Thumbs.db",
    )


@pytest.mark.parametrize("nested", ["", "Market-1501-v15.09.15"])
def test_market1501_drops_junk_and_keeps_distractors(tmp_path: Path, nested: str) -> None:
    market_like(tmp_path / nested)
    parts = load_benchmark("market1501", tmp_path)
    assert triples(parts.train) == [("0002_c1s1_000451_03.jpg", 2, 1), ("0007_c6s3_077467_01.jpg", 7, 6)]
    assert triples(parts.gallery) == [("0000_c3s1_000551_00.jpg", 0, 3), ("0001_c2s1_001051_00.jpg", 1, 2)]
    assert parts.input_size == (256, 128)
    assert parts.train.counts() == {"images": 2, "identities": 2, "cameras": 2}


def test_dukemtmc_and_personx(tmp_path: Path) -> None:
    for name, folder, file, expected in (
        ("dukemtmc", "DukeMTMC-reID", "0001_c8_f0046182.jpg", (1, 8)),
        ("personx", "PersonX", "0410_c12_1.jpg", (410, 12)),
    ):
        for part in ("bounding_box_train", "query", "bounding_box_test"):
            touch(tmp_path / folder / part, file)
        assert triples(load_benchmark(name, tmp_path).query) == [(file, *expected)]


def test_veri776_is_square_and_has_cameras_of_three_digits(tmp_path: Path) -> None:
    for part in ("image_train", "image_query", "image_test"):
        touch(tmp_path / part, "0001_c020_00016450_0.jpg")
    parts = load_benchmark("veri776", tmp_path)
    assert triples(parts.gallery) == [("0001_c020_00016450_0.jpg", 1, 20)]
    assert parts.input_size == (224, 224)


@pytest.mark.parametrize(
    ("folder", "train", "test"),
    [("MSMT17_V1", "train", "test"), ("MSMT17_V2", "mask_train_v2", "mask_test_v2"), ("", "train", "test")],
)
def test_msmt17_follows_its_lists_and_joins_the_validation_part(
    tmp_path: Path, folder: str, train: str, test: str
) -> None:
    root = tmp_path / folder
    touch(root / train, "0000/0000_000_01_0303morning_0015_0.jpg")
    (root / "list_train.txt").write_text("0000/0000_000_01_0303morning_0015_0.jpg 0\n")
    (root / "list_val.txt").write_text("0009/0009_004_15_0303noon_0015_0.jpg 9\n")
    (root / "list_query.txt").write_text("0003/0003_000_07_0303noon_0015_0.jpg 3\n")
    (root / "list_gallery.txt").write_text("0003/0003_001_14_0303noon_0015_0.jpg 3\n")
    parts = load_benchmark("msmt17", tmp_path)
    assert [(identity, camera) for _, identity, camera in triples(parts.train)] == [(0, 1), (9, 15)]
    assert parts.train.files[0].is_file()
    assert parts.query.files == [root / test / "0003/0003_000_07_0303noon_0015_0.jpg"]
    assert triples(parts.gallery)[0][1:] == (3, 14)


def test_a_damaged_list_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("train", "val", "query", "gallery"):
        (tmp_path / f"list_{name}.txt").write_text("0000/0000_000_01_0303morning_0015_0.jpg 0\nrubbish\n")
    with pytest.raises(DatasetError, match=r"list_train\.txt, line 2: .*rubbish"):
        load_benchmark("msmt17", tmp_path)
    (tmp_path / "list_val.txt").unlink()
    (tmp_path / "list_train.txt").write_text("0000/0000_000_01_0303morning_0015_0.jpg 0\n")
    with pytest.raises(DatasetError, match=r"list_val\.txt is missing"):
        load_benchmark("msmt17", tmp_path)


def test_names_that_do_not_parse_are_counted_and_shown(tmp_path: Path) -> None:
    market_like(tmp_path)
    touch(tmp_path / "query", *(f"holiday{n}.jpg" for n in range(5)))
    with pytest.raises(
        DatasetError, match=r"query: 5 file names .*holiday0\.jpg, holiday1\.jpg, holiday2\.jpg, \.\.\."
    ):
        load_benchmark("market1501", tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"unknown data set 'cuhk03'.*market1501"):
        load_benchmark("cuhk03", tmp_path)
    with pytest.raises(DatasetError, match="bounding_box_train is missing"):
        load_benchmark("market1501", tmp_path)
    with pytest.raises(DatasetError, match="neither train"):
        load_benchmark("msmt17", tmp_path)
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / part).mkdir()
    with pytest.raises(DatasetError, match="holds no image"):
        load_benchmark("market1501", tmp_path)
