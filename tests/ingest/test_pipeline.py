"""The command as a user meets it: real processes, the motion detector, files that are fine and files that are not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ingest import pipeline
from ingest.__main__ import app
from ingest.shards import CROPS, MANIFEST, SUMMARY, TRACKLETS, list_shards, load_crops, open_shard, remove_superseded
from ingest.site import load_site
from ingest.workspace import Workspace
from models.atomic import publish_folder, sha256_file
from tests.ingest.conftest import Walker, write_audio, write_video
from tests.ingest.test_worker_pool import ctrl_c_works, workers_of

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ingest", "run", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        preexec_fn=ctrl_c_works,
    )


def run(folder: Path, *options: str) -> tuple[int, str, str]:
    """The command in this process, which spares it its imports; its workers are processes of their own all the same."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", str(folder), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def write_site(folder: Path, cameras: list[dict[str, Any]], **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema": 1, "name": "tiny", "cameras": cameras, "detector": {"fps": 10}, **changes}
    (folder / "site.yaml").write_text(yaml.safe_dump(content))


def content_of(folder: Path) -> dict[str, str]:
    """Hashes of everything below shards/, by name."""
    root = folder / "shards"
    return {str(path.relative_to(root)): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings in which blocks walk."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(3):
        walkers = [
            Walker(feet=110, start=0.8 + 0.1 * number, speed=45),
            Walker(feet=220, start=1.2, speed=50 - 5 * number),
        ]
        write_video(folder / f"cam{number + 1}.mp4", 4.0, walkers, creation_time="2026-03-01T08:00:00Z")
    return folder


@pytest.fixture(scope="module")
def reference(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three recordings ingested in one go."""
    folder = tmp_path_factory.mktemp("reference")
    write_site(folder, [{"id": f"cam{n}", "videos": [str(recordings / f"cam{n}.mp4")]} for n in (1, 2, 3)])
    code, out, err = run(folder, "--json")
    assert code == 0, err
    status = json.loads(out)
    assert status["state"] == "done"
    assert status["counts"]["videos"] == status["counts"]["cameras"] == 3
    assert status["counts"]["frames"] == 240
    assert status["counts"]["crops"] >= 4 * status["counts"]["tracklets"] >= 12
    assert status["failures"] == []
    assert status["seconds"] > 0
    assert status == json.loads((folder / "status/ingest.json").read_text())
    assert "cam2" in err
    return folder


def test_again_there_is_nothing_new(reference: Path) -> None:
    before, status = content_of(reference), json.loads((reference / "status/ingest.json").read_text())
    code, out, err = run(reference)
    assert (code, out) == (0, "")
    assert "nothing new" in err
    assert content_of(reference) == before
    after = json.loads((reference / "status/ingest.json").read_text())
    assert after["seconds"] == status["seconds"]  # what the work took, not what looking took
    assert (after["counts"], after["new"]) == (status["counts"], 0)


def test_nothing_heavy_is_loaded_when_nothing_is_new(reference: Path) -> None:
    code = (
        "import sys, ingest.__main__ as m\n"
        "try: m.app(['run', sys.argv[1]], standalone_mode=False)\n"
        "finally: print([n for n in ('torch', 'ultralytics', 'av', 'scipy', 'openvino') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(reference)], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert done.stdout == "[]\n"


def test_one_more_recording_ingests_that_one_only(recordings: Path, reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    (folder / "in").mkdir(parents=True)
    write_site(folder, [{"id": "cam1", "videos": ["in/*.mp4"]}])
    shutil.copy2(recordings / "cam1.mp4", folder / "in/one.mp4")
    assert run(folder)[0] == 0
    first = {path: path.stat().st_mtime_ns for path in (folder / "shards").rglob("*") if path.is_file()}
    shutil.copy2(recordings / "cam2.mp4", folder / "in/two.mp4")
    code, out, _ = run(folder, "--json")
    assert code == 0
    assert json.loads(out)["new"] == 1
    assert json.loads(out)["counts"]["videos"] == 2
    assert {path: path.stat().st_mtime_ns for path in first} == first
    # The same content makes the same crops at another site, under another name.
    of_reference = {sha256_file(shard.path / CROPS) for shard in shards_of(reference)}
    assert sha256_file(shards_of(folder)[0].path / CROPS) in of_reference


def shards_of(folder: Path) -> list[Any]:
    return list_shards(Workspace(load_site(str(folder))))


def test_one_recording_at_two_cameras_is_two_shards(recordings: Path, tmp_path: Path) -> None:
    video = str(recordings / "cam1.mp4")
    write_site(tmp_path, [{"id": "left", "videos": [video]}, {"id": "right", "videos": [video]}])
    assert run(tmp_path)[0] == 0
    crops = load_crops(shards_of(tmp_path))
    assert crops.camera_ids == ["left", "right"]
    assert len({name.split("/", 1)[1] for name in crops.tracklet_ids}) * 2 == len(crops.tracklet_ids)


def test_a_camera_that_site_yaml_no_longer_names_is_left_out_and_said(recordings: Path, tmp_path: Path) -> None:
    video = str(recordings / "cam1.mp4")
    write_site(tmp_path, [{"id": "front", "videos": [video]}])
    assert run(tmp_path)[0] == 0
    write_site(tmp_path, [{"id": "entrance", "videos": [video]}])
    code, out, err = run(tmp_path, "--json")
    assert code == 0
    assert [shard.camera_id for shard in shards_of(tmp_path)] == ["entrance"]
    assert json.loads(out)["counts"]["cameras"] == 1
    assert "'front' is not in site.yaml" in err
    write_site(tmp_path, [{"id": "entrance", "videos": [video]}, {"id": "front", "videos": [video]}])
    assert run(tmp_path, "--json")[0] == 0
    assert [shard.camera_id for shard in shards_of(tmp_path)] == ["entrance", "front"]


def test_a_new_mask_holds_for_recordings_that_are_gone(recordings: Path, tmp_path: Path) -> None:
    for name in ("old.mp4", "new.mp4"):
        shutil.copy(recordings / f"cam{1 if name == 'old.mp4' else 2}.mp4", tmp_path / name)
    cameras: list[dict[str, Any]] = [{"id": "cam1", "videos": ["*.mp4"]}]
    write_site(tmp_path, cameras)
    assert run(tmp_path)[0] == 0
    (tmp_path / "old.mp4").unlink()
    cameras[0]["mask"] = [[[0, 0], [0.5, 0], [0.5, 1]]]
    write_site(tmp_path, cameras)
    code, _, err = run(tmp_path)
    assert code == 0
    assert [shard.summary["video_name"] for shard in shards_of(tmp_path)] == ["new.mp4"]
    assert "old.mp4" in err
    assert "mask has changed" in err


def test_every_change_of_the_mask_makes_a_later_generation(recordings: Path, tmp_path: Path) -> None:
    for generation, corner in enumerate((0.2, 0.3, 0.4, 0.2), start=1):
        mask = [[[0, 0], [corner, 0], [corner, corner]]]
        write_site(tmp_path, [{"id": "cam1", "videos": [str(recordings / "cam1.mp4")], "mask": mask}])
        assert run(tmp_path)[0] == 0
        (shard,) = shards_of(tmp_path)
        assert (shard.generation, shard.summary["settings"]["mask"]) == (generation, mask)
        assert [path.name for path in (tmp_path / "shards/cam1").iterdir()] == [shard.shard_id]


def test_one_content_under_two_names_is_one_shard_for_good(recordings: Path, tmp_path: Path) -> None:
    for name in ("cam_20260301_080000.mp4", "cam_20260301_090000.mp4"):
        shutil.copy(recordings / "cam1.mp4", tmp_path / name)
    time_ = {"from": "filename", "pattern": "cam_%Y%m%d_%H%M%S"}
    write_site(tmp_path, [{"id": "cam1", "videos": ["*.mp4"], "time": time_}])
    assert run(tmp_path)[0] == 0
    before = content_of(tmp_path)
    assert "nothing new" in run(tmp_path)[2]
    assert content_of(tmp_path) == before


def test_an_unknown_time_is_said(recordings: Path, tmp_path: Path) -> None:
    shutil.copy(recordings / "cam1.mp4", tmp_path / "cam.mp4")
    time_ = {"from": "filename", "pattern": "kam_%Y%m%d"}
    write_site(tmp_path, [{"id": "cam1", "videos": ["cam.mp4"], "time": time_}])
    code, _, err = run(tmp_path)
    assert code == 0
    assert "cam1: cam.mp4: when it was recorded is unknown" in err


def test_other_settings_replace_the_shard(recordings: Path, tmp_path: Path) -> None:
    cameras = [{"id": "cam1", "videos": [str(recordings / "cam1.mp4")]}]
    write_site(tmp_path, cameras)
    assert run(tmp_path)[0] == 0
    (old,) = shards_of(tmp_path)
    write_site(tmp_path, cameras, detector={"fps": 5})
    assert run(tmp_path)[0] == 0
    (new,) = shards_of(tmp_path)
    assert (old.generation, new.generation) == (1, 2)
    assert new.shard_id != old.shard_id
    assert [path.name for path in (tmp_path / "shards/cam1").iterdir()] == [new.shard_id]
    write_site(tmp_path, cameras)
    assert run(tmp_path)[0] == 0
    (again,) = shards_of(tmp_path)
    assert (again.shard_id, again.generation) == (old.shard_id, 3)


def test_an_erasure_is_obeyed_by_the_next_run(recordings: Path, tmp_path: Path) -> None:
    video = recordings / "cam1.mp4"
    write_site(tmp_path, [{"id": "cam1", "videos": [str(video)]}])
    line = {
        "schema": 1,
        "video_sha256": sha256_file(video),
        "start_pts_s": 0,
        "end_pts_s": 99,
        "box": [0, 120, 320, 240],
    }
    (tmp_path / "erasures.jsonl").write_text(json.dumps(line) + "\n")
    assert run(tmp_path)[0] == 0
    crops = load_crops(shards_of(tmp_path))
    assert len(crops) > 0
    assert (crops.boxes[:, 3] < 150).all()
    (tmp_path / "erasures.jsonl").write_text("{\n")
    code, _, err = run(tmp_path)
    assert code == 1
    assert "erasures.jsonl, line 1" in err


def test_bad_files_are_named_and_the_others_go_on(recordings: Path, tmp_path: Path) -> None:
    good = (recordings / "cam1.mp4").read_bytes()
    (tmp_path / "good.mp4").write_bytes(good)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello " * 100)
    write_audio(tmp_path / "audio.mp4")
    write_video(tmp_path / "whole.mkv", 3.0, [Walker(start=0.8)])
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * 0.6)])
    (tmp_path / "whole.mkv").unlink()
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    long = "x" * 300 + ".mp4"
    names = ["good.mp4", "empty.mp4", "text.mp4", "audio.mp4", "missing.mp4", "cut.mkv", "round.mp4", long]
    write_site(tmp_path, [{"id": "cam1", "videos": names}, {"id": "cam2", "videos": ["none/*.mp4"]}])
    code, out, err = run(tmp_path, "--json")
    assert code == 3
    status = json.loads(out)
    failed = {Path(failure["path"]).name: failure for failure in status["failures"]}
    assert sorted(failed) == ["*.mp4", "audio.mp4", "empty.mp4", "missing.mp4", "round.mp4", "text.mp4", long]
    for name, failure in failed.items():
        assert name in failure["error"]
        assert name in err
    assert failed["*.mp4"]["camera"] == "cam2"
    assert status["counts"]["videos"] == 2
    assert [remark["path"] for remark in status["remarks"]] == ["cut.mkv"]
    assert "ends before its stated length" in status["remarks"][0]["error"]
    assert "Traceback" not in err
    # The refusal stays, run after run, until the file is gone.
    assert run(tmp_path)[0] == 3


def test_when_nothing_can_be_ingested_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    write_site(tmp_path, [{"id": "cam1", "videos": ["empty.mp4"]}])
    assert run(tmp_path)[0] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"detector": {"weights": "gone.pt.onnx"}}, "no such detector weights"),
        ({"timezone": "X"}, "timezone"),
        ({"detector": {"weights": "broken.onnx"}}, "cannot load these weights"),
    ],
)
def test_a_wrong_site_is_one_readable_line(
    recordings: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    write_site(tmp_path, [{"id": "cam1", "videos": [str(recordings / "cam1.mp4")]}], **changes)
    code, out, err = run(tmp_path)
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1
    assert says in err
    assert "Traceback" not in err
    status = tmp_path / "status" / "ingest.json"
    assert not status.exists() or json.loads(status.read_text())["state"] == "failed"


def test_ground_truth_must_be_there(recordings: Path, tmp_path: Path) -> None:
    write_site(tmp_path, [{"id": "cam1", "videos": [str(recordings / "cam1.mp4")], "ground_truth": "gone.csv"}])
    code, _, err = run(tmp_path)
    assert code == 1
    assert "gone.csv: no such ground truth" in err


def test_usage(tmp_path: Path) -> None:
    for arguments in (["run"], ["run", str(tmp_path), "--workers", "0"], ["fly"]):
        done = subprocess.run([sys.executable, "-m", "ingest", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
    code, _, err = run(tmp_path / "nowhere")
    assert code == 1
    assert re.search(r"error: site .*nowhere.*no site.yaml found", err)


def test_the_more_shards_there_are_the_less_often_all_are_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", 0.5 + number / 10)
    write_site(tmp_path, [{"id": "cam1", "videos": ["*.mp4"]}])
    clock, looks = [0.0], []

    def look(workspace: Workspace) -> None:
        looks.append(workspace)
        clock[0] += 3.0
        remove_superseded(workspace)

    def publish(source: Path, target: Path) -> None:
        publish_folder(source, target)
        clock[0] += 20.0

    monkeypatch.setattr(pipeline, "remove_superseded", look)
    monkeypatch.setattr(pipeline, "publish_folder", publish)
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    result = pipeline.ingest_site(load_site(str(tmp_path)), workers=1)
    assert (result.new, result.status["state"], result.status["counts"]["videos"]) == (6, "done", 6)
    # After the first, then a twentieth of the time: 60 seconds later, which is after the fourth; and at the end.
    assert len(looks) == 3


def unfinished(folder: Path) -> list[Path]:
    return list((folder / "shards").glob("*/.tmp-*")) if (folder / "shards").exists() else []


def finished(folder: Path) -> list[Path]:
    return [path for path in (folder / "shards").glob("*/*") if not path.name.startswith(".")]


STOPS: dict[str, Callable[[Path], bool]] = {
    "hashed": lambda folder: (folder / "content_hashes.json").exists(),
    "folder made": lambda folder: bool(unfinished(folder)),
    "crops written": lambda folder: any(
        (tmp / CROPS).exists() and (tmp / CROPS).stat().st_size > 0 for tmp in unfinished(folder)
    ),
    "tables written": lambda folder: any((tmp / MANIFEST).exists() for tmp in unfinished(folder)),
    "one published": lambda folder: len(finished(folder)) >= 1,
}


def test_killed_at_any_moment_the_same_command_ends_the_same(reference: Path, recordings: Path, tmp_path: Path) -> None:
    shutil.copy2(reference / "site.yaml", tmp_path / "site.yaml")
    killed = 0
    for reached in STOPS.values():
        process = start(tmp_path, "--workers", "1")
        deadline = time.monotonic() + 200
        while process.poll() is None and not reached(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if process.poll() is None:
            process.kill()  # the parent alone: its workers have to notice
            killed += 1
        process.communicate()
        for path in finished(tmp_path):
            shard = open_shard(path)  # whole, or not there
            assert len(shard.crops()) == shard.summary["counts"]["crops"]
            assert all(shard.read_jpeg(r["offset"], r["length"]) for r in shard.crops().to_pylist())
    assert killed >= 3
    code, _, err = run(tmp_path)
    assert code == 0, err
    assert unfinished(tmp_path) == []
    assert content_of(tmp_path) == content_of(reference)


def kill_workers(process: subprocess.Popen[str]) -> int:
    """Kill the processes that work for it; how many there were."""
    workers = workers_of(process.pid)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    return len(workers)


def test_what_a_killed_worker_had_in_hand_is_tried_again(reference: Path, tmp_path: Path) -> None:
    shutil.copy2(reference / "site.yaml", tmp_path / "site.yaml")
    process = start(tmp_path, "--workers", "1", "--json")
    while not unfinished(tmp_path):
        assert process.poll() is None
        time.sleep(0.002)
    assert kill_workers(process) == 1
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["failures"] == []
    assert content_of(tmp_path) == content_of(reference)


def test_a_recording_that_kills_its_workers_is_set_aside_until_told_otherwise(reference: Path, tmp_path: Path) -> None:
    shutil.copy2(reference / "site.yaml", tmp_path / "site.yaml")
    process = start(tmp_path, "--workers", "1", "--json")
    deaths: list[str] = []
    while process.poll() is None:
        working = [folder for folder in unfinished(tmp_path) if folder.parent.name == "cam2"]
        if working and kill_workers(process):
            deaths.append("cam2")
            shutil.rmtree(working[0], ignore_errors=True)  # so that the next try is seen
        time.sleep(0.002)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    assert len(deaths) == 3
    (failure,) = json.loads(out)["failures"]
    assert failure["camera"] == "cam2" and "was killed" in failure["error"]
    assert json.loads(out)["counts"]["videos"] == 2

    code, out, err = run(tmp_path, "--json")
    assert code == 3
    assert "set aside after 3 tries" in err and "ingest retry" in err
    assert json.loads(out)["new"] == 0

    again = subprocess.run(
        [sys.executable, "-m", "ingest", "retry", str(tmp_path)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert again.returncode == 0 and "another chance: 1" in again.stderr
    assert run(tmp_path)[0] == 0
    assert content_of(tmp_path) == content_of(reference)


def test_ctrl_c_ends_cleanly(reference: Path, tmp_path: Path) -> None:
    shutil.copy2(reference / "site.yaml", tmp_path / "site.yaml")
    process = start(tmp_path, "--workers", "2")
    while not unfinished(tmp_path):
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "run the same command again" in err
    assert unfinished(tmp_path) == []
    assert json.loads((tmp_path / "status/ingest.json").read_text())["state"] == "interrupted"


def test_two_at_once_are_one_too_many(reference: Path) -> None:
    with Workspace(load_site(str(reference))).lock():
        code, _, err = run(reference)
    assert code == 1
    assert f"pid {os.getpid()}" in err


@pytest.mark.parametrize("left", ["both generations", "half removed"])
def test_a_run_stopped_while_removing_what_is_superseded(reference: Path, tmp_path: Path, left: str) -> None:
    shutil.copytree(reference, tmp_path / "site")
    folder = tmp_path / "site"
    shard = shards_of(folder)[0]
    old = shard.path.with_name(shard.video_id + "-000000000000")
    shutil.copytree(shard.path, old)
    summary = json.loads((shard.path / SUMMARY).read_text())
    (shard.path / SUMMARY).write_text(json.dumps({**summary, "generation": 2}))
    if left == "half removed":
        old.rename(old.with_name(f".tmp-{old.name}"))
        (old.with_name(f".tmp-{old.name}") / TRACKLETS).unlink()
    assert run(folder)[0] == 0
    assert [path.name for path in shard.path.parent.iterdir()] == [shard.shard_id]


@pytest.mark.shared_data
def test_real_footage_with_the_real_detector(shared_data: Path, tmp_path: Path) -> None:
    """Four seconds of the plaza: whole people, tracked, in crops of a sensible shape."""
    import av

    with av.open(str(shared_data / "footage/plaza/cam1.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = source.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts * stream.time_base > 4:
                break
            packet.stream = copy
            cut.mux(packet)
    weights = str(shared_data / "weights/yolov8n_int8_openvino_model")
    write_site(tmp_path, [{"id": "cam1", "videos": ["cut.mp4"]}], detector={"weights": weights})
    code, _, err = run(tmp_path)
    assert code == 0, err
    crops = load_crops(shards_of(tmp_path))
    assert len(crops.tracklet_ids) >= 5
    width, height = (crops.boxes[:, 2:] - crops.boxes[:, :2]).T
    assert 1.2 < float((height / width).mean()) < 4
    assert (height >= 40).all()
