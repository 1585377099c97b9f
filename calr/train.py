"""The `train` command: a site's shards in, a trained model in runs/<run-id>/ out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calr.profiles import METHOD, Profile, find_profile
from calr.start_model import start_weights
from calr.torchrun import is_first, own_file, wait_for_all
from models.atomic import sha256_file, write_json

if TYPE_CHECKING:
    from calr.intra_camera import Progress
    from calr.training_run import RunResult
    from calr.training_set import TrainingSet
    from ingest.shards import CropSet
    from ingest.site import SiteConfig
    from ingest.workspace import Workspace

LABELS = {"none": "train", "ground-truth": "ceiling"}
"""Where labels come from -> the status file that tells about it."""


def train_site(site_ref: str, profile: str | None = None, labels: str = "none") -> dict[str, Any]:
    """Train a model on a site's crops. Resumable; a run that is done already is not repeated. Under torchrun every
    process calls this, inside `calr.torchrun.torchrun`.

    torch is only imported when there is something to do.

    Args:
        site_ref: name of the site, or its folder.
        profile: name of the training profile; None = the one in site.yaml.
        labels: "none" = the method; "ground-truth" = the ceiling, training on true identities.

    Returns:
        What status/train.json (or status/ceiling.json) holds; state is "done" or "nothing to do".

    Raises:
        calr.training_loop.TrainError, ingest.site.SiteError, models.weights.WeightsError: ValueErrors that say what to
            do.
    """
    from ingest.shards import list_shards, load_crops
    from ingest.site import load_site
    from ingest.workspace import Workspace

    if labels not in LABELS:
        raise ValueError(f"labels is {labels!r}; known: {', '.join(LABELS)}")
    site = load_site(site_ref)
    settings = find_profile(profile or site.training.profile)
    workspace = Workspace(site)
    with _site_of_one_run(workspace):
        crops = load_crops(list_shards(workspace))
        if not len(crops):
            raise ValueError(f"site {site.name} has no crops yet: python -m ingest run {site_ref}")
        question = run_question(site, settings, labels, crops.fingerprint())
        run_id = "r-" + hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:12]
        folder = workspace.runs / run_id
        status = finished_run(folder)
        if status is not None:
            if is_first():
                workspace.write_status(LABELS[labels], status)
                print(f"run {run_id} is done already: nothing to do", file=sys.stderr)
            return {**status, "state": "nothing to do"}
        status = _train(site, workspace, crops, settings, labels, run_id, question)
        if is_first():
            workspace.write_status(LABELS[labels], status)
    return status


@contextmanager
def _site_of_one_run(workspace: Workspace) -> Iterator[None]:
    """The workspace's lock, held by the first of the processes that train together for all of them."""
    with workspace.lock() if is_first() else nullcontext():
        wait_for_all()
        yield
        wait_for_all()


def run_question(site: SiteConfig, profile: Profile, labels: str, fingerprint: str) -> dict[str, Any]:
    """Everything that decides what a run computes; its hash is the run's id."""
    training = site.training
    return {
        "method": METHOD,
        "labels": labels,
        "data": fingerprint,
        "profile": profile.as_json(),
        "arch": training.arch,
        "pooling": training.pooling,
        "input_size": list(training.input_size),
        "seed": training.seed,
        "init": _weights_identity(site),
    }


def _weights_identity(site: SiteConfig) -> str:
    ref = start_weights(site)
    path = Path(ref.partition("#")[0])
    return f"sha256:{sha256_file(path)}" if path.is_file() else ref


def finished_run(folder: Path) -> dict[str, Any] | None:
    """What run.json says of a finished run; None where the run is not finished or its model is gone."""
    try:
        status = json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = isinstance(status, dict) and (folder / "final.safetensors").is_file()
    return status if whole else None


def _train(
    site: SiteConfig,
    workspace: Workspace,
    crops: CropSet,
    profile: Profile,
    labels: str,
    run_id: str,
    question: dict[str, Any],
) -> dict[str, Any]:
    from time import monotonic

    from calr.precision import best_precision, leave_one_core
    from calr.run_report import write_run_report
    from calr.start_model import start_model
    from calr.training_run import run_training
    from calr.training_set import from_crop_set
    from ingest.derived import RUN_SHARDS
    from models.weights import save_checkpoint

    began = monotonic()
    folder = workspace.runs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    if is_first():
        # Before anything is made from crops: whoever is erased must be found here.
        names = sorted(f"{shard.camera_id}/{shard.path.name}" for shard in crops.shards)
        write_json(folder / RUN_SHARDS, {"schema": 1, "shards": names})
    start = start_model(site)  # before anything slow: weights that do not fit are the likeliest mistake
    leave_one_core()
    precision = best_precision()
    cache = own_file(folder / "crops.cache")
    with progress(f"training {site.name}") as step:
        data = from_crop_set(crops, site.training.input_size, cache, lambda i, n: step("reading crops", i, n))
        result = run_training(
            lambda: _copy(start),
            data,
            profile,
            site.training.seed,
            precision,
            folder,
            known_identities=labels == "ground-truth",
            on_step=step,
        )
    cache.unlink(missing_ok=True)
    status = _status(site, workspace, data, result, profile, labels, run_id)
    status["seconds"] = round(max(result.seconds, monotonic() - began), 2)
    if not is_first():
        return status
    meta = {"input_size": list(site.training.input_size), "run_id": run_id, "profile": profile.name, "labels": labels}
    save_checkpoint(folder / "final.safetensors", result.net, meta)
    with progress("report") as step:
        step("drawing", 0, 1)
        write_run_report(folder, data, start, result, status, precision)
    write_json(folder / "run.json", {"schema": 1, "status": status, "settings": question, "precision": str(precision)})
    return status


def _copy(net: Any) -> Any:
    from copy import deepcopy

    return deepcopy(net)


def _status(
    site: SiteConfig,
    workspace: Workspace,
    data: TrainingSet,
    result: RunResult,
    profile: Profile,
    labels: str,
    run_id: str,
) -> dict[str, Any]:
    last = result.history[-1]
    folder = workspace.runs / run_id
    return {
        "schema": 1,
        "state": "done",
        "run_id": run_id,
        "checkpoint": str((folder / "final.safetensors").relative_to(workspace.root)),
        "report": str((folder / "report.html").relative_to(workspace.root)),
        "profile": profile.name,
        "labels": labels,
        "arch": site.training.arch,
        "counts": {"crops": len(data), "tracklets": data.nodes, "cameras": len(data.camera_ids)},
        "epochs": {stage: sum(record["stage"] == stage for record in result.history) for stage in ("intra", "inter")},
        "last_epoch": last,
        "notices": result.notices,
    }


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Two progress bars with remaining time on standard error, for all epochs and for what is being done just now.

    Gives the function that moves them.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from calr.training_run import EPOCHS

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=not is_first())) as bar:
        whole = bar.add_task(title, total=None)
        task = bar.add_task("start", total=None)
        current = ""

        def step(what: str, done: int, total: int) -> None:
            nonlocal current
            if what == EPOCHS:
                bar.update(whole, completed=done, total=total)
                return
            if what != current:
                current = what
                bar.reset(task, total=total, description=what)
            bar.update(task, completed=done, total=total)

        yield step
