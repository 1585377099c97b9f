"""What works on a site now, what each stage last did, and which training runs are not finished: as far as the commands
say so in the workspace. Nothing here starts or stops anything."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from ingest.workspace import Workspace

STAGES = ("ingest", "train", "export", "index")
"""Of `make train-site`, in their order; the names of their status files."""


@dataclass(frozen=True)
class StageJob:
    """What a stage last said.

    Attributes:
        stage: its name.
        status: its status file; None where it has not run.
        state: as the file has it; "stopped" where it says that it runs and nothing does.
        written_at: RFC 3339.
    """

    stage: str
    status: dict[str, Any] | None
    state: str | None
    written_at: str | None


@dataclass(frozen=True)
class UnfinishedRun:
    """A training run that has begun and not ended.

    Attributes:
        run_id: its name.
        epochs: how many are done, of all stages.
        last: the stage of the last of them and its number there, in words; empty where none is done.
        at: when that was, or when the run began; RFC 3339.
    """

    run_id: str
    epochs: int
    last: str
    at: str


@dataclass(frozen=True)
class Jobs:
    """working: commands that have the workspace or its gallery for themselves now, such as "calr train"."""

    working: list[str]
    stages: list[StageJob]
    unfinished: list[UnfinishedRun]


def site_jobs(workspace: Workspace) -> Jobs:
    """How a site's commands stand."""
    holders = workspace.holders()
    working = [_command(holder) for holder in holders]
    ingesting = any(command.split()[0] == "ingest" for command in working)
    stages = []
    for stage in STAGES:
        status = workspace.read_status(stage)
        state = None if status is None else str(status.get("state"))
        if state == "running" and not ingesting:
            state = "stopped"
        stages.append(StageJob(stage, status, state, _changed(workspace.status / f"{stage}.json")))
    return Jobs(working, stages, _unfinished(workspace.runs))


def _unfinished(runs: Path) -> list[UnfinishedRun]:
    if not runs.is_dir():
        return []
    found = []
    for run in sorted(path for path in runs.iterdir() if path.is_dir() and not (path / "run.json").exists()):
        lines = _lines(run / "metrics.jsonl")
        last = ""
        if lines:
            camera = f" of {lines[-1]['camera']}" if "camera" in lines[-1] else ""
            last = f"{lines[-1].get('stage')}, epoch {lines[-1].get('epoch')}{camera}"
        at = _changed(run / "metrics.jsonl") or _changed(run)
        if at is not None:  # else it was removed just now
            found.append(UnfinishedRun(run.name, len(lines), last, at))
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    return [line for line in read if isinstance(line, dict)]


def _command(holder: str) -> str:
    """`ingest run`, of `pid 7: .../ingest/__main__.py run SITE`, which is what a lock says of who holds it."""
    try:
        program, *arguments = shlex.split(holder.partition(": ")[2])
    except ValueError:
        return "another process"
    path = PurePath(program)
    name = path.parent.name if path.name == "__main__.py" else path.name
    return " ".join([name or "another process", *arguments[:1]])


def _changed(path: Path) -> str | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
    except OSError:
        return None
