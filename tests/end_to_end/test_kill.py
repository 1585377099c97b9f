"""`kill -9` in the middle of any stage, then the same command: the same artefacts in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import STAGES, Sites, artefacts

# What must be there before a stage can run, as the folders that the stages before it filled.
NEEDS = {"ingest": (), "train": ("shards",), "export": ("shards", "runs"), "index": ("shards", "runs", "models")}


def kill_after(sites: Sites, package: str, command: str, seconds: float) -> bool:
    """Start the stage and kill it with all its children; true if it was still running then."""
    process = subprocess.Popen(
        [sys.executable, "-m", package, command, "small"],
        env=sites.environment,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def borrow(sites: Sites, finished: Sites, command: str) -> None:
    """Bring the site to the moment before the stage, with what the undisturbed run made."""
    origin, root = finished.folder / "small", sites.folder / "small"
    for folder in NEEDS[command]:
        shutil.copytree(origin / folder, root / folder)
    (root / "status").mkdir(exist_ok=True)
    for _, earlier in STAGES:
        stage = "ingest" if earlier == "run" else earlier
        if stage == command:
            break
        shutil.copy(origin / "status" / f"{stage}.json", root / "status")


@pytest.mark.parametrize(
    ("package", "command"),
    [("ingest", "run"), ("calr", "train"), ("calr", "export"), ("gallery_service", "index")],
)
def test_killed_stage_goes_on_and_ends_the_same(
    sites: Sites, finished: Sites, package: str, command: str, tmp_path: Path
):
    """Killed at two fifths, then at three quarters of the time that the undisturbed stage took."""
    took = json.loads((finished.folder / "durations.json").read_text())[command]
    borrow(sites, finished, "ingest" if command == "run" else command)
    before = shutil.copytree(sites.folder / "small", tmp_path / "before")
    while not sum(kill_after(sites, package, command, share * took) for share in (0.4, 0.75)):
        # The undisturbed stage had been slowed down by something else: nothing was tested yet.
        shutil.rmtree(sites.folder / "small")
        shutil.copytree(before, sites.folder / "small")
        took /= 2
    again = sites.run(package, command, "small")
    assert again.returncode == 0, again.stderr
    expected = artefacts(finished.folder / "small")
    for name, digest in artefacts(sites.folder / "small").items():
        assert expected[name] == digest, f"{name} differs from the undisturbed run's"
    made = {"run": "shards", "train": "runs", "export": "models", "index": "gallery"}[command]
    missing = {name for name in expected if name.startswith(made + "/")} - set(artefacts(sites.folder / "small"))
    assert missing == set()
