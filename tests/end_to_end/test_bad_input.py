"""Wrong input is named, costs nothing else, and ends with the right status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import Sites


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, rendered: Path) -> Path:
    """The small site's shards."""
    sites = Sites(tmp_path_factory.mktemp("ingested"))
    shutil.copytree(rendered, sites.folder / "small")
    done = sites.run("ingest", "run", "small")
    assert done.returncode == 0, done.stderr
    return sites.folder / "small" / "shards"


def write_video(path, frames: int = 30) -> None:
    """An empty grey room."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(frames):
            picture = np.full((180, 320, 3), 120, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())


def test_unknown_site_is_named_with_the_way_out(sites: Sites):
    for package, command in (("ingest", "run"), ("calr", "train"), ("gallery_service", "index")):
        done = sites.run(package, command, "nowhere")
        assert done.returncode == 1
        assert "nowhere" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ref", ["../../etc", "Upper", "a/../../b", "", "x" * 41])
def test_a_site_name_never_leaves_its_folder(sites: Sites, ref: str):
    done = sites.run("ingest", "run", ref)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


def test_refused_recordings_are_named_and_the_rest_goes_the_whole_way(sites: Sites):
    folder = sites.folder / "small" / "recordings"
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    whole = next(folder.glob("*1.mp4")).read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    config = sites.config("small")
    config["cameras"][0].pop("ground_truth")  # frame numbers of several recordings would say nothing
    config["cameras"][0]["videos"] += [f"recordings/{name}.mp4" for name in ("empty", "text", "truncated", "not-there")]
    config["cameras"].append({"id": "dark", "videos": ["recordings/nothing-like-this-*.mp4"]})
    sites.configure("small", config)
    done = sites.run("ingest", "run", "small", "--json")
    assert done.returncode == 3, done.stderr
    status = json.loads(done.stdout)
    named = json.dumps(status["failures"])
    for name in ("empty.mp4", "text.mp4", "not-there.mp4", "dark"):
        assert name in named, name
    # What decodes of a truncated recording is kept, and said.
    assert "truncated.mp4" in json.dumps(status["remarks"])
    assert status["counts"]["videos"] == 3
    assert "Traceback" not in done.stderr
    assert sites.run("calr", "train", "small").returncode == 0
    assert sites.run("calr", "export", "small").returncode == 0
    assert sites.run("gallery_service", "index", "small").returncode == 0
    report = sites.run("calr", "report", "small")
    assert report.returncode == 3, report.stderr
    assert "text.mp4" in report.stderr
    assert "truncated.mp4" in report.stderr


def test_one_camera_only_says_that_search_needs_two(sites: Sites):
    config = sites.config("small")
    config["cameras"] = config["cameras"][:1]
    sites.configure("small", config)
    done = sites.whole_way("small")
    assert "two cameras" in done["calr", "train"].stderr
    assert "two cameras" in done["calr", "report"].stderr
    report = json.loads((sites.folder / "small" / "report.json").read_text())
    assert report["retrieval"] is None


def test_nobody_in_the_footage_is_no_crash_and_training_says_why_it_stops(sites: Sites):
    write_video(sites.folder / "small" / "recordings" / "room.mp4")
    config = sites.config("small")
    config["cameras"] = [{"id": "room", "videos": ["recordings/room.mp4"]}]
    sites.configure("small", config)
    done = sites.run("ingest", "run", "small", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["crops"] == 0
    trained = sites.run("calr", "train", "small")
    assert trained.returncode == 1
    assert "no" in trained.stderr
    assert "Traceback" not in trained.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"init": "recordings/nothing.safetensors"}, "nothing.safetensors"),
        ({"arch": "resnet50"}, "resnet50"),
        ({"arch": "no-such-net"}, "no-such-net"),
        ({"profile": "no-such-profile"}, "no-such-profile"),
    ],
)
def test_weights_that_do_not_fit_are_refused(sites: Sites, ingested: Path, change: dict[str, str], told: str):
    shutil.copytree(ingested, sites.folder / "small" / "shards")
    config = sites.config("small")
    config["training"].update(change)
    sites.configure("small", config)
    done = sites.run("calr", "train", "small")
    assert done.returncode == 1, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_checksum_of_weights_is_refused(sites: Sites, ingested: Path):
    shutil.copytree(ingested, sites.folder / "small" / "shards")
    config = sites.config("small")
    config["training"]["init"] += "#sha256=" + "0" * 64
    sites.configure("small", config)
    done = sites.run("calr", "train", "small")
    assert done.returncode == 1
    assert "SHA-256" in done.stderr
    assert "0" * 64 in done.stderr


def test_two_writers_are_told_of_each_other(sites: Sites, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CALR_SITES", str(sites.folder))
    from ingest.site import load_site
    from ingest.workspace import Workspace

    with Workspace(load_site("small")).lock():
        done = sites.run("ingest", "run", "small")
    assert done.returncode == 1
    assert str(os.getpid()) in done.stderr


def test_make_train_site_runs_the_stages_in_a_row(sites: Sites):
    """One stage's failure ends it with make's status: here the first one's, an unknown site."""
    done = subprocess.run(
        ["make", "train-site", "SITE=nowhere"],
        cwd=REPOSITORY,
        env=sites.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "calr train" not in done.stdout + done.stderr
