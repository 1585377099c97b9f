"""A training run in its folder: both stages, epoch after epoch, stoppable at any moment and continued where it was.

    runs/<run-id>/
        shards.json                    from which shards it learns (a site's run), for whoever erases somebody
        checkpoints/NNNN.safetensors   after every epoch, the last two
        labels/<stage>-EE.safetensors  who was taken for whom in each epoch
        metrics.jsonl                  a line per epoch
        final.safetensors              the trained model
        report.html, run.json          written last; run.json says that the run is done

A run that is killed and started again gives the same final.safetensors, bit for bit, as one left alone (on the same
CPU with the same number of threads). Several processes may train together (`calr.data_parallel`); the first one writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calr.checkpoint import KEPT, Checkpoint, latest_checkpoint, save_checkpoint
from calr.data_parallel import processes, same_everywhere
from calr.ghost_batch_norm import use_ghost_batches
from calr.inter_camera import InterCamera
from calr.intra_camera import IntraCamera, LocalClusters, Progress
from calr.per_camera_stage import PerCameraStage
from calr.precision import Precision
from calr.profiles import Profile
from calr.torchrun import is_first, wait_for_all
from calr.training_loop import TrainError
from calr.training_set import TrainingSet
from models.atomic import write_bytes, write_text
from models.reid import ReidNet

FEWEST_NODES = 4
EPOCHS = "epochs"
"""What on_step is told about when a whole epoch is done."""


@dataclass(frozen=True)
class RunResult:
    """net: trained. history: the lines of metrics.jsonl. notices: what whoever reads the result has to know.
    seconds: of all epochs, also those of earlier, interrupted attempts."""

    net: ReidNet
    history: list[dict[str, Any]]
    notices: list[str]
    seconds: float


def run_training(
    start_net: Callable[[], ReidNet],
    data: TrainingSet,
    profile: Profile,
    seed: int,
    precision: Precision,
    folder: Path,
    known_identities: bool = False,
    on_step: Progress = lambda what, done, total: None,
    kept: int | None = KEPT,
) -> RunResult:
    """Train, or continue to train, in a folder.

    Args:
        start_net: gives the encoder with its start weights; each stage starts from them.
        data: the crops.
        profile: settings.
        seed: of every random choice.
        precision: device and number format.
        folder: of the run; what lies there from an earlier attempt with the same arguments is used.
        known_identities: train on data.identity instead of clusters, with the budget of the inter-camera stage: the
            ceiling of what better clusters could give.
        on_step: told about progress inside an epoch, and as `EPOCHS` about whole epochs.
        kept: how many checkpoints stay; None = all.

    Raises:
        TrainError: too little data, or no true identities for the ceiling.
    """
    _check(data, known_identities)
    notices: list[str] = []
    data = replace(data, images=precision.keep(data.images))
    many_cameras = len(np.unique(data.camera)) > 1
    if not many_cameras and not known_identities:
        notices.append("cross-camera search needs two cameras; only the intra-camera stage was run")
    saved = latest_checkpoint(folder / "checkpoints")
    history: list[dict[str, Any]] = [] if saved is None else list(saved.state["history"])
    wait_for_all()  # nobody writes before all have read
    if is_first():
        _write_metrics(folder, history)
    resumed = None if saved is None else saved.state["stage"]["name"]
    net: ReidNet | None = None
    local: LocalClusters | None = None
    if profile.ghost_batch is None and processes() > 1:
        raise TrainError(
            f"profile {profile.name} normalises over whole batches, which several processes cannot share; take one "
            "with ghost_batch, like gpu-paper, or run without torchrun"
        )

    def fresh() -> ReidNet:
        net = start_net()
        net.to(memory_format=torch.channels_last)
        if profile.ghost_batch is not None:
            use_ghost_batches(net, profile.ghost_batch)
        net.to(precision.device)
        same_everywhere(net)
        return net

    with_intra = profile.intra is not None and not known_identities
    after_intra = profile.inter.epochs if many_cameras else 0

    def run(stage: IntraCamera | PerCameraStage | InterCamera) -> ReidNet:
        if saved is not None and resumed == stage.name:
            stage.restore(saved.tensors, saved.state["stage"])
        while not stage.finished:
            title = f"{stage.name}-camera epoch {stage.epoch + 1}/{stage.epochs}"
            record, labels = stage.run_epoch(_titled(on_step, title))
            history.append(record)
            if is_first():
                _write_labels(folder, f"{stage.name}-{record['epoch']:02d}", labels)
                state = {"stage": {"name": stage.name, **stage.state()}, "history": history}
                save_checkpoint(folder / "checkpoints", Checkpoint(len(history), stage.tensors(), state), kept)
                _write_metrics(folder, history)
            left = 0 if stage.finished else stage.epochs - stage.epoch
            left += after_intra if stage.name == "intra" else 0
            on_step(EPOCHS, len(history), len(history) + left)
        return stage.net

    if with_intra and resumed != "inter":
        intra: IntraCamera | PerCameraStage
        if profile.intra_per_camera:
            intra = PerCameraStage(fresh, data, profile, seed, precision)
        else:
            intra = IntraCamera(fresh(), data, profile, seed, precision)
        net = run(intra)
        local = intra.local
        del intra  # and what it keeps on a GPU
    if many_cameras or known_identities:
        known = data.identity if known_identities else None
        net = run(InterCamera(fresh(), data, profile, seed, precision, local, known))
        if all(record["trained_clusters"] < 2 for record in history if record["stage"] == "inter"):
            notices.append("no two people could be told apart with enough crops each; the model is the start model")
    if net is None:
        raise TrainError(f"profile {profile.name} leaves out the intra-camera stage, the only one for a single camera")
    seconds = sum(float(record["seconds"]) for record in history)
    return RunResult(net.cpu().eval(), history, notices, seconds)


def _titled(on_step: Progress, title: str) -> Progress:
    return lambda what, done, total: on_step(f"{title}, {what}", done, total)


def _check(data: TrainingSet, known_identities: bool) -> None:
    if data.nodes < FEWEST_NODES:
        kind = "tracklets" if data.has_tracklets else "crops"
        raise TrainError(
            f"there are {data.nodes} {kind}, training needs at least {FEWEST_NODES}; add recordings with more people"
        )
    if known_identities:
        people = 0 if data.identity is None else len(np.unique(data.identity[data.identity >= 0]))
        if people < 2:
            raise TrainError(
                f"training on true identities needs ground truth with two people, there is {people or 'none'}; "
                "name the cameras' ground_truth files in site.yaml and ingest again"
            )


def _write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    # Rewritten whole from the checkpoint's history: a line can neither be lost nor come twice.
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "metrics.jsonl", "".join(json.dumps(record, sort_keys=True) + "\n" for record in history))


def _write_labels(folder: Path, name: str, labels: dict[str, NDArray[np.int64]]) -> None:
    from safetensors.numpy import save

    (folder / "labels").mkdir(exist_ok=True)
    write_bytes(
        folder / "labels" / f"{name}.safetensors", save({k: np.ascontiguousarray(v) for k, v in labels.items()})
    )


def global_labels(folder: Path) -> list[NDArray[np.int64]]:
    """(M,) global cluster of every node, -1 for none, for each inter-camera epoch of a run, the first one first. What
    an epoch found with the features that it began with: those of the start model in the first."""
    from safetensors.numpy import load_file

    found = (load_file(file).get("global") for file in sorted((folder / "labels").glob("inter-*.safetensors")))
    return [labels for labels in found if labels is not None]


def last_refined_labels(folder: Path) -> NDArray[np.int64] | None:
    """(M,) refined cluster of every node in the last inter-camera epoch of a run, -1 for none; None where the run has
    no such epoch."""
    from safetensors.numpy import load_file

    files = sorted((folder / "labels").glob("inter-*.safetensors"))
    return load_file(files[-1]).get("refined") if files else None
