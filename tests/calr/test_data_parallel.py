"""Several processes give what one gives. They are real processes that torchrun starts, talking through gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

import calr.data_parallel as data_parallel
from calr.data_parallel import gather, own_share, shares, units
from calr.features import extract
from calr.profiles import Proxies
from calr.torchrun import is_first, own_file, torchrun
from calr.training_loop import TrainError
from tests.calr.test_train import make_site
from tests.calr.test_training_run import EXACT, run, toy_profile
from tests.calr.toy_people import ToyNet, toy_people

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("unit", [1, 2, 4, 64])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 64, 65, 128, 129, 130])
def test_shares_cover_everything_once_in_whole_units(
    n: int, unit: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_parallel, "processes", lambda: count)
    divided = shares(n, unit)
    assert len(divided) == count
    assert [i for part in divided for i in range(n)[part]] == list(range(n))
    sizes = [part.stop - part.start for part in divided]
    assert unit == 1 or n == 1 or 1 not in sizes  # one image alone has no variance
    assert all(part.start % unit == 0 or part.start == n for part in divided)
    assert sum(units(part, unit) for part in divided) == units(slice(0, n), unit)
    assert max(units(part, unit) for part in divided) <= -(-units(slice(0, n), unit) // count)


def test_one_process_is_the_trivial_case(tmp_path: Path) -> None:
    with torchrun():
        assert is_first() and own_file(tmp_path / "x") == tmp_path / "x"
        assert own_share(7, 2) == slice(0, 7)
        part = torch.ones(7, 2)
        assert gather(part, 7, 2) is part


def train_in(folder: Path) -> None:
    """What every process runs: two stages with all parts, normalised over 8 images at a time."""
    torch.set_num_threads(1)
    profile = replace(toy_profile(), proxies=Proxies())
    with torchrun():
        result = run(toy_people(people=12), folder, profile)
        if is_first():
            save_file({k: v.contiguous() for k, v in result.net.state_dict().items()}, folder / "final.safetensors")


def _start(folder: Path, count: int) -> str:
    code = f"import sys, pathlib; sys.path.insert(0, {str(ROOT)!r}); import tests.calr.test_data_parallel as t; "
    code += f"t.train_in(pathlib.Path({str(folder)!r}))"
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), script]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_same_model(one: Path, other: Path) -> None:
    """Sums over processes add in another order, so losses and features agree to rounding. (Single parameters need not:
    a bias in front of a normalisation has no gradient but rounding, which Adam blows up to its step size.)"""
    history = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (one, other)]
    for record, again in zip(*history, strict=True):
        assert record.keys() == again.keys()
        for name, value in record.items():
            if name.startswith("loss"):
                assert again[name] == pytest.approx(value, rel=1e-4), (record["stage"], record["epoch"], name)
    images = toy_people(people=12).images
    features = []
    for folder in (one, other):
        net = ToyNet()
        net.load_state_dict({k: torch.from_numpy(v) for k, v in load_file(folder / "final.safetensors").items()})
        features.append(extract(net, images, EXACT))  # type: ignore[arg-type]
    np.testing.assert_allclose(features[1], features[0], atol=1e-3)


@pytest.mark.parametrize("count", [2, 3])
def test_the_number_of_processes_does_not_change_the_result(count: int, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    train_in(alone)
    _start(together, count)
    for labels in sorted((alone / "labels").iterdir()):
        one, many = load_file(labels), load_file(together / "labels" / labels.name)
        assert set(one) == set(many)
        for name in one:
            np.testing.assert_array_equal(one[name], many[name], err_msg=f"{labels.name} {name}")
    assert_same_model(alone, together)
    assert len((together / "metrics.jsonl").read_text().splitlines()) == 5


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    alone, mixed = tmp_path / "alone", tmp_path / "mixed"
    alone.mkdir()
    train_in(alone)
    mixed.mkdir()
    train_in(mixed)
    for path in sorted((mixed / "checkpoints").iterdir())[-1:]:
        path.unlink()
    (mixed / "final.safetensors").unlink()
    _start(mixed, 2)
    assert_same_model(alone, mixed)


def test_whole_batch_normalisation_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calr.training_run.processes", lambda: 2)
    with pytest.raises(TrainError, match="ghost_batch"):
        run(toy_people(people=8), tmp_path, replace(toy_profile(), ghost_batch=None))


def test_the_train_command_under_torchrun(tmp_path: Path) -> None:
    folder = make_site(tmp_path / "toy")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "calr", "train", str(folder), "--json"]
    for state in ("done", "nothing to do"):
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        status = json.loads(done.stdout)  # of the first process alone
        assert status["state"] == state
    assert json.loads((folder / "status" / "train.json").read_text())["state"] == "done"
    run_folder = folder / "runs" / status["run_id"]
    assert sorted(path.name for path in run_folder.iterdir() if path.is_file()) == [
        "final.safetensors",
        "metrics.jsonl",
        "report.html",
        "run.json",
        "shards.json",
    ]
