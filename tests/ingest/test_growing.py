"""Recordings that are being written, and recordings that have grown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ingest.erasures import Erasure, add_erasures
from ingest.growing import QUIET_S, still_written
from ingest.shards import list_shards
from ingest.site import load_site
from ingest.workspace import Workspace
from models.atomic import sha256_file
from tests.ingest.conftest import write_video
from tests.ingest.test_pipeline import ENVIRONMENT, content_of, run, start, write_site
from tests.ingest.test_worker_pool import ctrl_c_works


def test_only_what_changes_is_still_written(tmp_path: Path) -> None:
    old, young, growing = (tmp_path / name for name in ("old", "young", "growing"))
    for path in (old, young, growing):
        path.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    stop = threading.Event()

    def record() -> None:
        while not stop.wait(0.1):
            with growing.open("ab") as file:
                file.write(b"x")

    thread = threading.Thread(target=record)
    thread.start()
    try:
        assert still_written([old, young, growing, tmp_path / "gone"]) == {growing}
    finally:
        stop.set()
        thread.join()
    began = time.monotonic()
    assert still_written([old]) == set()
    assert time.monotonic() - began < QUIET_S


def test_a_recorder_at_work_is_left_alone_and_taken_later(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", 3.0, format_="mpegts").read_bytes()
    recording = tmp_path / "live.ts"
    recording.write_bytes(whole[:1000])
    write_site(tmp_path / "site", [{"id": "cam1", "videos": [str(recording)]}])
    process = start(tmp_path / "site", "--json")
    written = 1000
    while process.poll() is None:
        written = min(written + 5000, len(whole) - 1000)
        recording.write_bytes(whole[:written])
        time.sleep(0.1)
    out, err = process.communicate()
    assert process.returncode == 3, err
    assert "still being written" in err
    status = json.loads(out)
    assert [entry["camera"] for entry in status["waiting"]] == ["cam1"]
    assert status["counts"]["videos"] == 0
    recording.write_bytes(whole)
    code, out, err = run(tmp_path / "site", "--json")
    assert code == 0, err
    assert json.loads(out)["counts"]["videos"] == 1


def test_a_longer_recording_takes_the_place_of_the_shorter_and_keeps_its_erasures(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", 4.0, format_="mpegts").read_bytes()
    recording, folder = tmp_path / "live.ts", tmp_path / "site"
    write_site(folder, [{"id": "cam1", "videos": [str(recording)]}])
    recording.write_bytes(whole[: len(whole) // 2 // 188 * 188])
    code, _, err = run(folder)
    assert code == 0, err
    workspace = Workspace(load_site(str(folder)))
    (short,) = list_shards(workspace)
    assert short.summary["counts"]["tracklets"] >= 1
    add_erasures(workspace.erasures, [Erasure(short.video_sha256, 0.0, 60.0, None)])

    recording.write_bytes(whole)
    code, _, err = run(folder)
    assert code == 0, err
    (long,) = list_shards(workspace)
    assert long.video_sha256 == sha256_file(recording)
    assert long.replaces == [short.video_sha256]
    assert long.summary["counts"]["frames"] == 80
    assert long.summary["counts"]["tracklets"] == 0
    assert not short.path.exists()
    before = content_of(folder)
    code, _, err = run(folder)
    assert code == 0 and "nothing new" in err, err
    assert content_of(folder) == before

    # What it was is not forgotten with other settings.
    write_site(folder, [{"id": "cam1", "videos": [str(recording)]}], detector={"fps": 5})
    code, _, err = run(folder)
    assert code == 0, err
    (again,) = list_shards(workspace)
    assert (again.generation, again.replaces) == (2, [short.video_sha256])
    assert again.summary["counts"]["tracklets"] == 0


def test_a_finished_file_with_another_header_is_the_same_recording_by_its_start(tmp_path: Path) -> None:
    """Matroska's header is written anew when the file is closed, so the shorter one is no beginning of the longer."""
    recording, folder = tmp_path / "cam.mkv", tmp_path / "site"
    write_site(folder, [{"id": "cam1", "videos": [str(recording)]}])
    for seconds in (2.0, 4.0):
        write_video(recording, seconds, creation_time="2026-03-01T08:00:00.000000Z")
        code, _, err = run(folder)
        assert code == 0, err
    (shard,) = list_shards(Workspace(load_site(str(folder))))
    assert shard.summary["counts"]["frames"] == 80


def test_a_recording_put_back_as_it_was_takes_the_place_of_what_it_had_grown_into(tmp_path: Path) -> None:
    """Whether or not anything says when it began, and again once it has grown anew."""
    began = "2026-03-01T08:00:00.000000Z"
    dated = [write_video(tmp_path / f"{s}.mkv", s, creation_time=began).read_bytes() for s in (2.0, 4.0)]
    whole = write_video(tmp_path / "whole.ts", 4.0, format_="mpegts").read_bytes()
    for name, states in (("cam.mkv", dated), ("live.ts", [whole[: len(whole) // 2 // 188 * 188], whole])):
        recording, folder = tmp_path / name, tmp_path / f"site-{name}"
        write_site(folder, [{"id": "cam1", "videos": [str(recording)]}])
        frames = []
        for number, state in enumerate([*states, *states]):
            recording.write_bytes(state)
            os.utime(recording, (1e9 + number, 1e9 + number))
            code, _, err = run(folder)
            assert code == 0, err
            (shard,) = list_shards(Workspace(load_site(str(folder))))
            frames.append(shard.summary["counts"]["frames"])
            code, _, err = run(folder)
            assert "nothing new" in err, err
        assert frames[:2] == frames[2:] and frames[0] < frames[1] == 80


def test_a_copy_of_what_a_recording_was_is_nothing_new(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", 4.0, format_="mpegts").read_bytes()
    recording, folder = tmp_path / "in" / "live.ts", tmp_path / "site"
    recording.parent.mkdir()
    write_site(folder, [{"id": "cam1", "videos": [f"{recording.parent}/*.ts"]}])
    short = whole[: len(whole) // 2 // 188 * 188]
    for state in (short, whole):
        recording.write_bytes(state)
        assert run(folder)[0] == 0
    recording.with_name("copy.ts").write_bytes(short)
    code, _, err = run(folder)
    assert code == 0 and "nothing new" in err, err
    (shard,) = list_shards(Workspace(load_site(str(folder))))
    assert shard.summary["counts"]["frames"] == 80


def test_another_recording_under_the_same_name_is_another_recording(tmp_path: Path) -> None:
    recording, folder = tmp_path / "cam.mp4", tmp_path / "site"
    write_site(folder, [{"id": "cam1", "videos": [str(recording)]}])
    for hour in (8, 9):
        write_video(recording, 2.0, creation_time=f"2026-03-01T{hour:02}:00:00.000000Z")
        code, _, err = run(folder)
        assert code == 0, err
    assert len(list_shards(Workspace(load_site(str(folder))))) == 2


def test_watching_takes_recordings_as_they_come(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_site(folder, [{"id": "cam1", "videos": ["in/*.mp4"]}])
    (folder / "in").mkdir()
    with (tmp_path / "said").open("w") as said:
        watch = subprocess.Popen(
            [sys.executable, "-m", "ingest", "watch", str(folder), "--every", "1"],
            stderr=said,
            env=ENVIRONMENT,
            preexec_fn=ctrl_c_works,
        )
    workspace = Workspace(load_site(str(folder)))
    try:
        for number in (1, 2):
            (folder / f"in/{number}.mp4").write_bytes(b"no video" * number)  # what cannot be read does not end it
            write_video(folder / f"in/ok{number}.mp4", 1.0 + number, [])
            deadline = time.monotonic() + 120
            while len(list_shards(workspace)) < number:
                assert watch.poll() is None
                assert time.monotonic() < deadline, (tmp_path / "said").read_text()
                time.sleep(0.2)
    finally:
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=60) == 0
    text = (tmp_path / "said").read_text()
    assert "Traceback" not in text
    assert text.count("1.mp4: not a video") == 1  # said once, not with every look
