"""Whole training runs on toy people: that they learn, what they leave behind, and that being killed changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from calr.checkpoint import latest_checkpoint
from calr.features import extract
from calr.precision import Precision
from calr.profiles import (
    PROFILES,
    CameraBalancedNeighbours,
    Dbscan,
    Infomap,
    LocalClustering,
    NearestNeighbours,
    Profile,
    Proxies,
)
from calr.training_loop import TrainError
from calr.training_run import RunResult, run_training
from calr.training_set import TrainingSet
from tests.calr.toy_people import ToyNet, cross_camera_map, toy_people

EXACT = Precision("cpu", bf16=False)


def toy_profile() -> Profile:
    tiny = PROFILES["cpu-tiny"]
    assert tiny.intra is not None
    return replace(
        tiny,
        intra=replace(tiny.intra, epochs=2, max_iterations=4, clusters=8, crops=4, patience=None),
        inter=replace(tiny.inter, epochs=3, min_iterations=6, max_iterations=6, clusters=8, crops=4, lr_step=3),
        local=LocalClustering(max_distance=0.5, k1=8, k2=3),
    )


def run(data: TrainingSet, folder: Path, profile: Profile | None = None, **options: Any) -> RunResult:
    return run_training(ToyNet, data, profile or toy_profile(), 1, EXACT, folder, **options)  # type: ignore[arg-type]


def quality(net: torch.nn.Module, data: TrainingSet) -> float:
    return cross_camera_map(extract(net, data.images, EXACT), data)


def test_training_without_labels_improves_search_across_cameras(tmp_path: Path) -> None:
    data = toy_people(people=12, crops=6)
    profile = toy_profile()
    profile = replace(profile, inter=replace(profile.inter, epochs=6, max_iterations=15, lr_step=5))
    before = quality(ToyNet(), data)
    after = quality(run(data, tmp_path, profile).net, data)
    assert before < 0.75
    assert after > before + 0.1


def test_true_identities_are_a_ceiling_with_the_same_number_of_batches(tmp_path: Path) -> None:
    data = toy_people(people=12, crops=6)
    result = run(data, tmp_path, known_identities=True)
    assert [record["stage"] for record in result.history] == ["inter"] * 3
    assert result.history[0]["trained_clusters"] == 12
    assert quality(result.net, data) > quality(ToyNet(), data) + 0.1
    assert "global" not in result.history[0] and "loss_alignment" not in result.history[0]


def test_camera_proxies_are_a_term_of_their_own(tmp_path: Path) -> None:
    data = toy_people(people=8)
    result = run(data, tmp_path, replace(toy_profile(), proxies=Proxies()))
    last = result.history[-1]
    assert last["loss_proxies"] > 0
    assert last["loss"] == pytest.approx(last["loss_contrastive"] + last["loss_proxies"])


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    data = toy_people(people=8)
    result = run(data, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history
    assert [(line["stage"], line["epoch"]) for line in lines] == [("intra", 0), ("intra", 1)] + [
        ("inter", e) for e in range(3)
    ]
    first = lines[2]
    assert set(first["global"]) == {"precision", "recall", "f", "expansion", "nmi"}
    assert 0 <= first["camera_accuracy"] <= 1 and first["loss"] == pytest.approx(
        first["loss_contrastive"] + first["loss_alignment"]
    )
    assert "loss_alignment" not in lines[3]  # alignment is for the early epochs
    assert first["lr"] == 3.5e-4 and first["seconds"] > 0 and first["share"] == 0.5
    labels = load_file(tmp_path / "labels" / "inter-02.safetensors")
    assert labels["global"].shape == labels["refined"].shape == (data.nodes,)
    assert labels["crop"].shape == (len(data),)
    assert load_file(tmp_path / "labels" / "intra-00.safetensors")["local"].shape == (data.nodes,)
    assert len(list((tmp_path / "checkpoints").glob("*.safetensors"))) == 2


def test_local_clusters_are_those_of_the_best_epoch_of_either_stage(tmp_path: Path) -> None:
    data = toy_people(people=12)
    history = run(data, tmp_path).history
    intra = [record["silhouette"] for record in history if record["stage"] == "intra"]
    inter = [record["local_silhouette"] for record in history if record["stage"] == "inter"]
    assert inter[0] >= max(intra) and inter == sorted(inter)
    assert inter[-1] > max(intra), "the toy encoder tells people apart better after stage 2"
    assert load_file(tmp_path / "labels" / "inter-02.safetensors")["local"].shape == (data.nodes,)


def test_stage_1_camera_by_camera_as_published(tmp_path: Path) -> None:
    data = toy_people(people=10, cameras=3)
    profile = replace(toy_profile(), intra_per_camera=True)
    history = run(data, tmp_path / "calm", profile).history
    intra = [record for record in history if record["stage"] == "intra"]
    assert [record["camera"] for record in intra] == ["cam0", "cam0", "cam1", "cam1", "cam2", "cam2"]
    assert [record["epoch"] for record in intra] == list(range(6))
    for number, record in enumerate(intra):
        labels = load_file(tmp_path / "calm" / "labels" / f"intra-{number:02d}.safetensors")["local"]
        assert set(data.node_camera[labels >= 0]) == {number // 2}
        assert record["clusters"] == len(set(labels[labels >= 0].tolist()))
    # Stopped in the middle of the second camera, and between two cameras.
    for number in (3, 4):
        folder = tmp_path / f"stopped-{number}"
        run(data, folder, profile, kept=None)
        for path in (folder / "checkpoints").iterdir():
            if int(path.stem) > number:
                path.unlink()
        again = run(data, folder, profile)
        for one, two in zip(history, again.history, strict=True):
            assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_a_finished_folder_is_read_back_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_people(people=8)
    first = run(data, tmp_path)
    monkeypatch.setattr("calr.inter_camera.train_epoch", lambda *_: pytest.fail("trained again"))
    second = run(data, tmp_path)
    assert second.history == first.history
    for one, two in zip(first.net.state_dict().values(), second.net.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_parts_can_be_left_out(tmp_path: Path) -> None:
    data = toy_people(people=8)
    bare = replace(toy_profile(), intra=None, refinement=None, alignment=None, entropy_warmup=None)
    history = run(data, tmp_path, bare).history
    assert [record["stage"] for record in history] == ["inter"] * 3
    assert all("share" not in record and "camera_accuracy" not in record for record in history)
    with pytest.raises(ValueError, match="refinement needs the local clusters"):
        replace(toy_profile(), intra=None)


def test_one_camera_runs_the_first_stage_and_says_so(tmp_path: Path) -> None:
    result = run(toy_people(people=8, cameras=1), tmp_path)
    assert {record["stage"] for record in result.history} == {"intra"}
    assert "cross-camera search needs two cameras" in result.notices[0]


def test_too_little_data_is_an_error_that_counts(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="there are 2 tracklets"):
        run(toy_people(people=1), tmp_path)
    anonymous = replace(toy_people(people=8), identity=None)
    with pytest.raises(TrainError, match="ground truth"):
        run(anonymous, tmp_path, known_identities=True)


def test_nobody_to_tell_apart_leaves_the_start_model_and_a_notice(tmp_path: Path) -> None:
    data = toy_people(people=3, crops=1)
    profile = replace(toy_profile(), graph=NearestNeighbours(k=1, min_similarity=1.0))
    result = run(data, tmp_path, profile)
    assert "the model is the start model" in result.notices[0]
    for one, two in zip(result.net.state_dict().values(), ToyNet().state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("clustering", [Infomap(), Dbscan(), Dbscan(eps=1e-6)], ids=["infomap", "dbscan", "outliers"])
@pytest.mark.parametrize("graph", [CameraBalancedNeighbours(), NearestNeighbours(k=15)], ids=["balanced", "plain"])
@pytest.mark.parametrize("alike", [False, True])
def test_fewer_crops_than_neighbours_outliers_only_and_twins_only(
    clustering: Infomap | Dbscan, graph: CameraBalancedNeighbours | NearestNeighbours, alike: bool, tmp_path: Path
) -> None:
    data = toy_people(people=2, crops=1)
    if alike:
        data = replace(data, images=data.images[:1].repeat(len(data), 1, 1, 1))
    profile = replace(toy_profile(), clustering=clustering, graph=graph, proxies=Proxies())
    result = run(data, tmp_path, profile)
    assert all(torch.isfinite(tensor.float()).all() for tensor in result.net.state_dict().values())
    json.dumps(result.history, allow_nan=False)


RUNNER = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
import tests.calr.test_training_run as t
result = t.run(t.toy_people(people=10), Path(sys.argv[1]))
save_file({k: v.contiguous() for k, v in result.net.state_dict().items()}, sys.argv[1] + "/final.safetensors")
"""


def _start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_run_killed_again_and_again_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert _start(calm).wait(300) == 0
    draw = np.random.default_rng(11)
    kills = 0
    for wanted in (1, 2, 4):
        process = _start(rough)
        # Wait for a checkpoint more, then a moment longer, so that the kill falls anywhere in the next epoch.
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            saved = sorted((rough / "checkpoints").glob("0*.safetensors"))
            if saved and int(saved[-1].stem) >= wanted:
                break
            time.sleep(0.01)
        time.sleep(float(draw.uniform(0, 0.3)))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    assert _start(rough).wait(300) == 0
    assert (rough / "final.safetensors").read_bytes() == (calm / "final.safetensors").read_bytes()
    strip = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]
        for path in (calm / "metrics.jsonl", rough / "metrics.jsonl")
    ]
    assert strip[0] == strip[1]
    for labels in sorted((calm / "labels").iterdir()):
        assert labels.read_bytes() == (rough / "labels" / labels.name).read_bytes()


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    data = toy_people(people=8)
    calm = run(data, tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    found = latest_checkpoint(tmp_path / "checkpoints")
    assert found is not None and found.number == 4
    again = run(data, tmp_path)
    for one, two in zip(calm.net.state_dict().values(), again.net.state_dict().values(), strict=True):
        assert torch.equal(one, two)
