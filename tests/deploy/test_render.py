from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import render
from figure import SUPERSAMPLING, Figure, Pose
from recording import Stage, frames

from ingest.site import camera_videos, load_site
from ingest.video import probe

DEMO = render.HERE
SMALL = ("--cameras", "2", "--walkers", "3", "--seconds", "4")


def run(folder: Path, *arguments: str, seed: int = 7) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO / "render.py"), "--out", str(folder), "--seed", str(seed), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def pictures(folder: Path) -> dict[str, np.ndarray]:
    decoded = {}
    for path in sorted((folder / "recordings").iterdir()):
        with av.open(str(path)) as container:
            decoded[path.name] = np.stack([frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)])
    return decoded


def truth(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "ground_truth").iterdir())}


def same(a: Path, b: Path) -> bool:
    first, second = pictures(a), pictures(b)
    return (
        truth(a) == truth(b)
        and first.keys() == second.keys()
        and all(np.array_equal(first[name], second[name]) for name in first)
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "site"
    result = run(folder, *SMALL)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    return folder


def test_the_same_arguments_give_the_same_pictures_and_truth_with_any_number_of_workers(
    site: Path, tmp_path: Path
) -> None:
    assert run(tmp_path / "again", *SMALL, "--workers", "1").returncode == 0
    assert same(site, tmp_path / "again")


def test_another_seed_gives_other_people(site: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "other", *SMALL, seed=8).returncode == 0
    assert truth(site) != truth(tmp_path / "other")
    first, second = pictures(site), pictures(tmp_path / "other")
    assert all(not np.array_equal(first[name], second[name]) for name in first)


def test_a_complete_folder_is_left_alone_and_another_seed_replaces_it_whole(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    tiny = ("--cameras", "1", "--walkers", "1", "--seconds", "1")
    assert run(folder, *tiny).returncode == 0
    (folder / "shards").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = run(folder, *tiny)
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert run(folder, *tiny, seed=9).returncode == 0
    assert not (folder / "shards").exists(), "what was made from the old recordings must go with them"
    assert json.loads((folder / "demo.json").read_text())["arguments"]["seed"] == 9
    (folder / "recordings" / "cam1.mp4").unlink()
    assert run(folder, *tiny, seed=9).returncode == 0
    assert (folder / "recordings" / "cam1.mp4").stat().st_size > 0, "a recording that was lost is rendered again"


def test_a_kill_in_the_middle_leaves_nothing_that_counts_as_complete(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, str(DEMO / "render.py"), "--out", str(folder), "--seed", "7", *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(folder.glob("recordings/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)  # the parent alone: its workers must notice and end
    process.wait()
    assert not json.loads((folder / "demo.json").read_text())["complete"]
    while time.monotonic() < deadline and _group_alive(process.pid):
        time.sleep(0.1)
    assert not _group_alive(process.pid), "a worker outlived the command"
    result = run(folder, *SMALL)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "demo.json").read_text())["complete"]
    assert same(site, folder)


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_folder_that_is_no_demo_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    result = run(tmp_path, *SMALL)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "mine.txt" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_kill_while_the_mark_was_first_written_leaves_a_demo(tmp_path: Path) -> None:
    (tmp_path / ".demo.json.123.abcd.tmp").write_text("{")
    assert run(tmp_path, *SMALL).returncode == 0


def test_a_strange_demo_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"seed": 7}')
    result = run(tmp_path, *SMALL)
    assert result.returncode == 1 and result.stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_wrong_arguments_are_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path / "x", "--walkers", "0").returncode == 2
    assert run(tmp_path / "x", "--seconds", "-3").returncode == 2
    assert not (tmp_path / "x").exists()


def test_the_site_is_one_that_ingest_reads_and_its_cameras_tell_the_time_three_ways(tmp_path: Path) -> None:
    arguments = render.Arguments(seed=3, cameras=3, walkers=2, seconds=1.0)
    assert render.render_site(tmp_path / "site", arguments, workers=2)
    config = load_site(str(tmp_path / "site"))
    assert [camera.time.source for camera in config.cameras] == ["container", "filename", "start"]
    assert config.detector.weights is None
    for camera in config.cameras:
        (recording,) = camera_videos(camera)
        assert recording.path.is_file()
        assert camera.ground_truth_path is not None and camera.ground_truth_path.is_file()
    first = probe(camera_videos(config.cameras[0])[0].path)
    assert first.creation_time == render.START
    # They hang on the map side by side.
    assert config.map is not None
    assert cv2.imread(str(config.resolve(config.map.image))) is not None
    places = [camera.position for camera in config.cameras if camera.position]
    assert sorted(set(places)) == places
    assert len(places) == 3


def test_ground_truth_boxes_are_those_of_the_drawn_bodies() -> None:
    plan = replace(render.plan_site(render.Arguments(4, 2, 8, 20.0))[1], frames=1)
    stage = Stage(plan.scene, np.random.default_rng(0))
    empty, _ = stage.compose([])
    figures = {walk.person_id: Figure(plan.people[walk.person_id - 1]) for walk in plan.walks}
    compared = 0
    for moment in np.arange(1.0, 19.0, 0.7):
        for walk in plan.walks:
            pose = walk.pose(float(moment))
            if pose is None:
                continue
            picture, boxes = stage.compose([(walk.person_id, figures[walk.person_id], pose)])
            if not boxes or boxes[0].visibility < 0.999:
                continue
            x1, y1, x2, y2 = boxes[0].box
            body = figures[walk.person_id].draw(pose, plan.scene.view, plan.scene.towards_light)
            # The body alone, painted over the empty picture: where the pictures differ strongly must lie in the box,
            # except for the shadow, which is no part of the body.
            rows, columns = np.nonzero(body.image[..., 3])
            assert x1 == pytest.approx((body.left + columns.min()) / SUPERSAMPLING, abs=0.01)
            assert y2 == pytest.approx((body.top + rows.max() + 1) / SUPERSAMPLING, abs=0.01)
            changed = np.abs(picture.astype(int) - empty).max(axis=2) > 0
            inside = changed[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
            share = (body.image[..., 3] > 0).sum() / SUPERSAMPLING**2 / ((x2 - x1) * (y2 - y1))
            assert inside.mean() > 0.85 * share
            above = changed[: int(y1), :]
            assert not above[:, int(x1) : int(np.ceil(x2))].any(), "something of the body is above its box"
            compared += 1
    assert compared > 20


def test_visibility_counts_what_others_and_walls_and_the_frame_hide() -> None:
    plan = render.plan_site(render.Arguments(4, 1, 2, 10.0))[0]
    stage = Stage(plan.scene, np.random.default_rng(0))
    figure = Figure(plan.people[0])

    def seen(*places: tuple[float, float]) -> list[float]:

        people = [(n + 1, figure, Pose(x, y, 0.0, 0.3, 0.4)) for n, (x, y) in enumerate(places)]
        return [round(item.visibility, 3) for item in stage.compose(people)[1]]

    assert seen((0.0, 8.0)) == [1.0]
    assert seen((0.0, 9.5), (0.0, 7.0))[1] == 1.0, "the nearer one is whole"
    assert seen((0.0, 9.5), (0.0, 7.0))[0] < 0.6, "the farther one is behind"
    assert 0.2 < seen((2.9, 10.5))[0] < 0.8, "behind a pillar"
    assert seen((0.0, 4.2))[0] < 0.9, "the legs are below the picture"
    assert seen((-4.0, 14.2)) == [0.0], "behind a wall"


def test_every_walker_passes_two_cameras_at_least_and_never_two_at_once() -> None:
    plans = render.plan_site(render.Arguments(5, 3, 24, 75.0))
    walks = [walk for plan in plans for walk in plan.walks]
    for person in range(1, 25):
        mine = sorted((walk for walk in walks if walk.person_id == person), key=lambda walk: walk.start_s)
        assert len({walk.camera for walk in mine}) == len(mine) >= 2
        assert all(before.end_s < after.start_s for before, after in pairwise(mine))
        assert all(5 <= walk.end_s - walk.start_s <= 16 for walk in mine)
    assert len({walk.person_id for walk in walks}) == 24


def test_ground_truth_rows_match_the_frames(site: Path) -> None:
    plan = render.plan_site(render.Arguments(7, 2, 3, 4.0))[0]
    with (site / "ground_truth" / "cam1.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [
        (str(number), str(item.person_id), f"{item.box[0]:.1f}", f"{item.visibility:.4f}")
        for number, (_, boxes) in enumerate(frames(plan))
        for item in boxes
    ]
    assert [(row["frame"], row["person_id"], row["x1"], row["visibility"]) for row in rows] == expected
    assert expected
