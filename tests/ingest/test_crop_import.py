"""Crops from elsewhere: every layout on a small generated tree, repeats, changes, bad pictures, kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from ingest.__main__ import app
from ingest.crop_import import ImportFailed, import_crops
from ingest.crop_layouts import LayoutError, read_layout
from ingest.erasures import Erasure
from ingest.shards import CROPS, list_shards, load_crops
from ingest.site import SiteError, load_site
from ingest.workspace import Workspace


def picture(path: Path, colour: int = 100, size: tuple[int, int] = (64, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(colour).integers(0, 50, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), np.full((*size, 3), colour, np.uint8) + noise)
    return path


def laid_out(folder: Path, layout: str) -> list[tuple[str, str, str, int | None]]:
    return [(crop.file.name, crop.camera, crop.tracklet, crop.person) for crop in read_layout(folder, layout)]


def test_market_names(tmp_path: Path) -> None:
    for name in (
        "0002_c1s1_000451_03.jpg",
        "sub/0002_c6s1_000551_01.jpg",
        "-1_c1s1_000001_01.jpg",
        "0000_c2s1_0_0.png",
    ):
        picture(tmp_path / name)
    assert laid_out(tmp_path, "market1501-names") == [
        ("0002_c1s1_000451_03.jpg", "c1", "0002_c1s1_000451_03", 2),
        ("0000_c2s1_0_0.png", "c2", "0000_c2s1_0_0", -1),
        ("0002_c6s1_000551_01.jpg", "c6", "0002_c6s1_000551_01", 2),
    ]


def test_mars_names(tmp_path: Path) -> None:
    for name in (
        "0001/0001C1T0001F002.jpg",
        "0001/0001C1T0001F001.jpg",
        "0001/0001C2T0001F001.jpg",
        "00-1C1T0001F001.jpg",
    ):
        picture(tmp_path / name)
    assert laid_out(tmp_path, "mars-names") == [
        ("0001C1T0001F001.jpg", "C1", "0001T0001", 1),
        ("0001C1T0001F002.jpg", "C1", "0001T0001", 1),
        ("0001C2T0001F001.jpg", "C2", "0001T0001", 1),
    ]


def test_folders_per_camera(tmp_path: Path) -> None:
    for name in ("door/a.jpg", "door/b.jpg", "yard/7/a.jpg", "yard/7/b.jpg"):
        picture(tmp_path / name)
    assert laid_out(tmp_path, "folder-per-camera") == [
        ("a.jpg", "door", "a.jpg", None),
        ("b.jpg", "door", "b.jpg", None),
        ("a.jpg", "yard", "7/", None),
        ("b.jpg", "yard", "7/", None),
    ]


def test_a_table(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "x/b.jpg", "x/c.jpg"):
        picture(tmp_path / name)
    (tmp_path / "crops.csv").write_text(
        "file,camera,tracklet,seconds,person_id\nx/b.jpg,door,1,2.5,4\nx/a.jpg,door,1,0.5,4\nx/c.jpg,yard,,,\n"
    )
    crops = read_layout(tmp_path, "csv")
    assert [(crop.file.name, crop.camera, crop.tracklet, crop.seconds, crop.person) for crop in crops] == [
        ("a.jpg", "door", "1", 0.5, 4),
        ("b.jpg", "door", "1", 2.5, 4),
        ("c.jpg", "yard", "x/c.jpg", None, None),
    ]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("name,camera\n", "needs the columns file and camera"),
        ("file,camera\nx/none.jpg,door\n", r"line 2: there is no x/none\.jpg"),
        ("file,camera\n../../etc/passwd,door\n", "lies outside the folder"),
        ("file,camera\nx/a.jpg,\n", "line 2: file or camera is empty"),
        ("file,camera,seconds\nx/a.jpg,door,soon\n", r"line 2, seconds: 'soon' is not a number"),
        ("file,camera,seconds\nx/a.jpg,door,nan\n", "is not a number"),
        ("file,camera,seconds\nx/a.jpg,door,1\nx/b.jpg,door,\n", "with and without seconds"),
        ("file,camera\n", "holds no picture"),
    ],
)
def test_a_wrong_table_is_told_with_its_line(tmp_path: Path, table: str, complaint: str) -> None:
    picture(tmp_path / "f/x/a.jpg")
    picture(tmp_path / "f/x/b.jpg")
    (tmp_path / "f/crops.csv").write_text(table)
    with pytest.raises(LayoutError, match=complaint):
        read_layout(tmp_path / "f", "csv")


def test_a_wrong_layout_is_told_with_names_and_numbers(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        picture(tmp_path / name)
    with pytest.raises(LayoutError, match=r"4 file names give no camera \(a\.jpg, b\.jpg, c\.jpg, \.\.\.\)"):
        read_layout(tmp_path, "mars-names")
    with pytest.raises(LayoutError, match="4 file paths are not <camera>/file"):
        read_layout(tmp_path, "folder-per-camera")
    with pytest.raises(LayoutError, match="unknown layout 'duke'; known: folder-per-camera"):
        read_layout(tmp_path, "duke")
    with pytest.raises(LayoutError, match="no such folder"):
        read_layout(tmp_path / "none", "csv")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two cameras; a tracklet of twelve crops and one of one in each."""
    for camera in ("door", "yard"):
        for number in range(12):
            picture(tmp_path / "people" / camera / "1" / f"{number:02d}.jpg", 60 + number)
        picture(tmp_path / "people" / camera / "2" / "00.png", 180)
    return tmp_path / "people"


def test_crops_become_shards_of_a_new_site(people: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert [one.new for one in import_crops(str(site), people, "folder-per-camera")] == [True, True]
    loaded = load_crops(list_shards(Workspace(load_site(str(site)))))
    assert loaded.camera_ids == ["door", "yard"]
    assert [len(crops) for crops in loaded.crops_of_tracklet] == [8, 1, 8, 1]
    original = (people / "door/1/00.jpg").read_bytes()
    assert original in [loaded.jpeg(i) for i in range(len(loaded))], "a JPEG is kept as it is"
    assert loaded.image(8).shape == (64, 32, 3), "any other picture becomes one"
    assert (loaded.captured_at == -1).all() and loaded.identities() is None
    spans = loaded.tracklet_pts[loaded.tracklet_camera == 0]
    assert spans[0, 1] < spans[1, 0], "tracklets without times do not overlap: that would make them two people"


def test_the_same_again_changes_nothing_and_a_changed_folder_replaces(people: Path, tmp_path: Path) -> None:
    site = str(tmp_path / "site")
    first = import_crops(site, people, "folder-per-camera")
    content = (first[0].shard.path / CROPS).read_bytes()
    assert [one.new for one in import_crops(site, people, "folder-per-camera")] == [False, False]
    picture(people / "door" / "3" / "00.jpg", 20)
    assert [one.new for one in import_crops(site, people, "folder-per-camera")] == [True, False]
    shards = list_shards(Workspace(load_site(site)))
    assert [shard.summary["counts"]["tracklets"] for shard in shards] == [3, 2]
    (people / "door" / "3" / "00.jpg").unlink()
    again = import_crops(site, people, "folder-per-camera")
    assert (again[0].shard.path / CROPS).read_bytes() == content
    assert len(list_shards(Workspace(load_site(site)))) == 2


def test_a_folder_of_the_same_name_elsewhere_adds(people: Path, tmp_path: Path) -> None:
    site = str(tmp_path / "site")
    import_crops(site, people, "folder-per-camera")
    picture(tmp_path / "day2" / "people" / "door" / "1" / "00.jpg", 7)
    import_crops(site, tmp_path / "day2" / "people", "folder-per-camera")
    counts = [shard.summary["counts"]["tracklets"] for shard in list_shards(Workspace(load_site(site)), "door")]
    assert sorted(counts) == [1, 2]


def test_crops_of_one_second_are_all_looked_at(tmp_path: Path) -> None:
    lines = ["file,camera,tracklet,seconds"]
    for number in range(24):
        picture(tmp_path / "f" / f"{number:02d}.jpg", 60 + number)
        lines.append(f"{number:02d}.jpg,door,1,{100 + number // 12}")
    (tmp_path / "f" / "crops.csv").write_text("\n".join(lines) + "\n")
    (one,) = import_crops(str(tmp_path / "site"), tmp_path / "f", "csv")
    rows = one.shard.crops().to_pylist()
    assert len(rows) == 8
    assert 100 <= rows[0]["pts_s"] < rows[-1]["pts_s"] < 102


def test_true_identities_are_kept_for_judging(tmp_path: Path) -> None:
    for person in (1, 2):
        for camera in (1, 2):
            picture(tmp_path / "m" / f"{person:04d}_c{camera}s1_{person:06d}_00.jpg", person * 40 + camera)
    picture(tmp_path / "m" / "0000_c1s1_000009_00.jpg")
    import_crops(str(tmp_path / "site"), tmp_path / "m", "market1501-names")
    loaded = load_crops(list_shards(Workspace(load_site(str(tmp_path / "site")))))
    identities = loaded.identities()
    assert identities is not None and sorted(identities.tolist()) == [-1, 1, 1, 2, 2]


def test_unreadable_pictures_are_skipped_and_counted_up_to_a_limit(tmp_path: Path) -> None:
    for number in range(40):
        picture(tmp_path / "f" / "door" / f"{number}.jpg", number)
    (tmp_path / "f/door/bad.jpg").write_bytes(b"not a picture")
    picture(tmp_path / "f" / "door" / "tiny.jpg", size=(2, 2))
    (one,) = import_crops(str(tmp_path / "site"), tmp_path / "f", "folder-per-camera")
    assert one.skipped == {"too small": 1, "unreadable": 1}
    assert one.shard.summary["counts"]["crops"] == 40
    (tmp_path / "f/door/bad2.jpg").write_bytes(b"")
    with pytest.raises(ImportFailed, match="camera door: 3 of 43 pictures cannot be used"):
        import_crops(str(tmp_path / "site"), tmp_path / "f", "folder-per-camera")
    (shard,) = list_shards(Workspace(load_site(str(tmp_path / "site"))))
    assert shard.path == one.shard.path
    assert [path.name for path in shard.path.parent.iterdir()] == [shard.shard_id]


def test_what_was_erased_is_not_imported_again(people: Path, tmp_path: Path) -> None:
    site = str(tmp_path / "site")
    first = import_crops(site, people, "folder-per-camera")
    workspace = Workspace(load_site(site))
    erasure = Erasure(first[0].shard.video_sha256, 0.0, 1.0, None)
    workspace.erasures.write_text(json.dumps(erasure.to_json()) + "\n")
    picture(people / "door" / "3" / "00.jpg", 20)
    with pytest.raises(ImportFailed, match="were erased since"):
        import_crops(site, people, "folder-per-camera")


def test_cameras_a_site_does_not_have_are_named(people: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.yaml").write_text("schema: 1\nname: s\ncameras: [{id: door, videos: []}]\n")
    with pytest.raises(SiteError, match="no camera 'yard'; the site has door"):
        import_crops(str(site), people, "folder-per-camera")
    assert not (site / "shards").exists()


def run(site: Path, folder: Path, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["import", str(site), str(folder), *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command(people: Path, tmp_path: Path) -> None:
    code, out, err = run(tmp_path / "site", people, "--json")
    assert code == 0, err
    assert json.loads(out)["cameras"]["door"] == {
        **{"frames": 0, "frames_looked_at": 0, "detections": 13, "tracklets": 2, "crops": 9},
        **{"skipped": {}, "new": True},
    }
    code, _, err = run(tmp_path / "site", people)
    assert code == 0 and "as before" in err
    code, _, err = run(tmp_path / "site", people, "--layout", "duke")
    assert code == 1 and "unknown layout 'duke'" in err
    ingested = CliRunner().invoke(app, ["run", str(tmp_path / "site")])
    assert ingested.exit_code == 0 and "nothing new" in ingested.stderr


def test_an_import_that_was_killed_is_done_by_the_next(tmp_path: Path) -> None:
    for number in range(1500):
        picture(tmp_path / "f" / "door" / f"{number:04d}.jpg", number % 200, (128, 64))
    import_crops(str(tmp_path / "whole"), tmp_path / "f", "folder-per-camera")
    (whole,) = list_shards(Workspace(load_site(str(tmp_path / "whole"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "ingest", "import", str(tmp_path / "killed"), str(tmp_path / "f")],
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / "killed" / "shards" / "door"
    while not (folder.is_dir() and any(folder.iterdir())):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name[:5] for path in folder.iterdir()] == [".tmp-"]
    (one,) = import_crops(str(tmp_path / "killed"), tmp_path / "f", "folder-per-camera")
    assert one.new
    assert {path.name: path.read_bytes() for path in one.shard.path.iterdir()} == {
        path.name: path.read_bytes() for path in whole.path.iterdir()
    }
    assert len(list(folder.iterdir())) == 1
