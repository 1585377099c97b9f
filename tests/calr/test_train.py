"""The train command's function on small workspaces: what it writes, repeats, refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from calr.train import train_site
from ingest.site import load_site
from ingest.workspace import Workspace
from models.reid import build_reid
from models.weights import load_checkpoint
from tests.gallery_service.synthetic import Walk, add_shard, pseudo_sha256, walks_of

REPOSITORY = Path(__file__).parents[2]


def make_site(folder: Path, cameras: int = 2, people: int = 6, crops: int = 5) -> Path:
    """A workspace with shards and random start weights, no recordings."""
    folder.mkdir()
    torch.manual_seed(3)
    save_file(build_reid("osnet_x0_25").state_dict(), folder / "start.safetensors")
    content = {
        "schema": 1,
        "name": "toy",
        "cameras": [{"id": f"cam{n}", "videos": ["none.mp4"]} for n in range(1, cameras + 1)],
        "training": {"profile": "cpu-tiny", "init": "start.safetensors", "input_size": [64, 32]},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    workspace = Workspace(load_site(str(folder)))
    for camera in range(1, cameras + 1):
        walks: list[Walk] = walks_of(camera, people)
        add_shard(workspace, camera, walks, sha256=pseudo_sha256(f"{folder.name} {camera}"), crops=crops)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = make_site(tmp_path_factory.mktemp("train") / "toy")
    return folder, train_site(str(folder))


def test_a_run_is_written_whole(trained: tuple[Path, dict[str, object]]) -> None:
    folder, status = trained
    assert status["state"] == "done"
    assert json.loads((folder / "status" / "train.json").read_text()) == status
    checkpoint = folder / str(status["checkpoint"])
    assert checkpoint == folder / "runs" / str(status["run_id"]) / "final.safetensors"
    net, meta = load_checkpoint(checkpoint)
    assert meta["input_size"] == (64, 32) and net.arch == "osnet_x0_25"
    assert status["counts"] == {"crops": 60, "tracklets": 12, "cameras": 2}
    assert status["epochs"] == {"intra": 2, "inter": 3}
    page = (folder / str(status["report"])).read_text()
    assert "data:image/svg+xml;base64," in page and str(status["run_id"]) in page
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_the_second_time_there_is_nothing_to_do_and_torch_stays_out(trained: tuple[Path, dict[str, object]]) -> None:
    folder, status = trained
    code = (
        "import sys, json; from calr.train import train_site; status = train_site(sys.argv[1]);"
        "assert 'torch' not in sys.modules; print(json.dumps(status))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert json.loads(done.stdout) == {**status, "state": "nothing to do"}
    assert "nothing to do" in done.stderr
    assert json.loads((folder / "status" / "train.json").read_text())["state"] == "done"


def test_other_weights_settings_or_crops_are_another_run(tmp_path: Path) -> None:
    from calr.profiles import find_profile
    from calr.train import run_question

    folder = make_site(tmp_path / "toy")
    site, profile = load_site(str(folder)), find_profile("cpu-tiny")
    base = run_question(site, profile, "none", "f1")
    assert base == run_question(site, profile, "none", "f1")
    others = [
        run_question(site, profile, "none", "f2"),
        run_question(site, profile, "ground-truth", "f1"),
        run_question(site, find_profile("cpu-quick"), "none", "f1"),
    ]
    save_file(build_reid("osnet_x0_25").state_dict(), folder / "start.safetensors")
    others.append(run_question(site, profile, "none", "f1"))
    assert all(other != base for other in others)
    json.dumps(base)


def test_one_camera_trains_and_says_what_is_missing(tmp_path: Path) -> None:
    status = train_site(str(make_site(tmp_path / "one", cameras=1)))
    assert status["epochs"]["inter"] == 0
    assert any("needs two cameras" in notice for notice in status["notices"])


def test_what_cannot_be_trained_is_said(tmp_path: Path) -> None:
    empty = make_site(tmp_path / "empty", cameras=0 + 1, people=0)
    with pytest.raises(ValueError, match="has no crops yet: python -m ingest run"):
        train_site(str(empty))
    few = make_site(tmp_path / "few", people=1)
    with pytest.raises(ValueError, match="there are 2 tracklets, training needs at least 4"):
        train_site(str(few))
    with pytest.raises(ValueError, match="ground truth"):
        train_site(str(make_site(tmp_path / "unknown")), labels="ground-truth")
    with pytest.raises(ValueError, match="known: none, ground-truth"):
        train_site(str(few), labels="some")
    with pytest.raises(ValueError, match="unknown profile"):
        train_site(str(few), profile="gpu-giant")


def test_start_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    folder = make_site(tmp_path / "toy")
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, folder / "start.safetensors")
    with pytest.raises(ValueError, match=r"start\.safetensors"):
        train_site(str(folder))
    assert not (folder / "status" / "train.json").exists()


def test_a_site_can_be_trained_from_imported_crops_alone(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    from ingest.crop_import import import_crops

    for camera in ("door", "yard"):
        for person in range(6):
            for number in range(5):
                path = tmp_path / "crops" / camera / str(person) / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                colour = np.random.default_rng(person).integers(0, 200, 3)
                noise = np.random.default_rng(number).integers(0, 40, (64, 32, 3))
                cv2.imwrite(str(path), (colour + noise).astype(np.uint8))
    site = tmp_path / "site"
    import_crops(str(site), tmp_path / "crops", "folder-per-camera")
    torch.manual_seed(3)
    save_file(build_reid("osnet_x0_25").state_dict(), site / "start.safetensors")
    content = yaml.safe_load((site / "site.yaml").read_text())
    content["training"] = {"profile": "cpu-tiny", "init": "start.safetensors", "input_size": [64, 32]}
    (site / "site.yaml").write_text(yaml.safe_dump(content))
    assert train_site(str(site))["counts"] == {"crops": 60, "tracklets": 12, "cameras": 2}
