"""How a site's commands stand, as far as the workspace says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gallery_service.jobs import site_jobs
from ingest.workspace import Workspace
from tests.gallery_service.synthetic import write_site

HOLD = """
import sys, time
site = sys.argv[1]
sys.argv = sys.argv[2:]
from ingest.site import load_site
from ingest.workspace import Workspace
workspace = Workspace(load_site(site))
with workspace.lock():
    print("held", flush=True)
    time.sleep(60)
"""


def hold(site: Path, program: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has the workspace for itself, as if it were a program called in this way."""
    command = [sys.executable, "-c", HOLD, str(site), program, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_site_of_which_nothing_was_done(tmp_path: Path) -> None:
    jobs = site_jobs(Workspace(write_site(tmp_path / "toy")))
    assert (jobs.working, jobs.unfinished) == ([], [])
    assert [(job.stage, job.state) for job in jobs.stages] == [
        ("ingest", None), ("train", None), ("export", None), ("index", None),
    ]  # fmt: skip


def test_what_runs_and_what_was_killed(tmp_path: Path) -> None:
    site = write_site(tmp_path / "toy")
    workspace = Workspace(site)
    workspace.write_status("ingest", {"state": "running"})
    workspace.write_status("index", {"state": "done"})
    process = hold(site.folder, "/somewhere/ingest/__main__.py", "run", "a site")
    try:
        jobs = site_jobs(workspace)
        assert jobs.working == ["ingest run"]
        assert [job.state for job in jobs.stages] == ["running", None, None, "done"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    jobs = site_jobs(workspace)
    assert jobs.working == [], "its name is still in the file"
    assert [job.state for job in jobs.stages] == ["stopped", None, None, "done"]
    with workspace.lock():  # looking has not taken it
        assert site_jobs(workspace).working


def test_another_command_does_not_make_a_killed_ingest_run(tmp_path: Path) -> None:
    site = write_site(tmp_path / "toy")
    workspace = Workspace(site)
    workspace.write_status("ingest", {"state": "running"})
    process = hold(site.folder, "/somewhere/calr/__main__.py", "train")
    try:
        jobs = site_jobs(workspace)
        assert jobs.working == ["calr train"]
        assert jobs.stages[0].state == "stopped"
    finally:
        process.kill()
        process.wait()


def test_a_training_run_says_how_far_it_is(tmp_path: Path) -> None:
    workspace = Workspace(write_site(tmp_path / "toy"))
    for name in ("r-1", "r-2", "r-3"):
        (workspace.runs / name).mkdir(parents=True)
    (workspace.runs / "r-1" / "run.json").write_text("{}")
    lines = [{"stage": "intra", "epoch": 0, "camera": "cam1"}, {"stage": "intra", "epoch": 1, "camera": "cam1"}]
    (workspace.runs / "r-2" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(workspace.runs / "r-2" / "metrics.jsonl", (time.time(), 1_772_352_000))
    (workspace.runs / "r-3" / "metrics.jsonl").write_text("{torn")
    first, second = site_jobs(workspace).unfinished
    assert (first.run_id, first.epochs, first.last) == ("r-2", 2, "intra, epoch 1 of cam1")
    assert first.at == "2026-03-01T08:00:00+00:00"
    assert (second.run_id, second.epochs, second.last) == ("r-3", 0, "")
