"""Train on a benchmark's images without its labels, and score the last epoch: one row of docs/accuracy.md.

The labels of the training part are only used to report how good the clusters are; the test part only to score what
came out. Resumable: the same command in the same folder goes on where it was stopped, and a finished one is not
repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calr.ablation import DIRECT, ROWS
from calr.benchmark_images import left_out, read_split
from calr.calibration import fit_calibration
from calr.checkpoint import KEPT
from calr.datasets import Benchmark, Split, load_benchmark
from calr.metrics import evaluate_ranking, same_identity_same_camera_excluded
from calr.profiles import METHOD, Profile, find_profile
from calr.score_correlation import score_correlation
from calr.torchrun import is_first, own_file
from models.atomic import write_json

if TYPE_CHECKING:
    from calr.intra_camera import Progress
    from calr.precision import Precision
    from calr.training_run import RunResult
    from calr.training_set import TrainingSet
    from models.bundle import Bundle
    from models.matching.calibration import Calibration
    from models.reid import ReidNet


@dataclass(frozen=True)
class Question:
    """What a row of the table asks.

    Attributes:
        dataset: name of the benchmark.
        row: name of the row (`calr.ablation.ROWS`).
        profile: name of the training profile the row changes.
        arch: architecture.
        weights: start weights: a path or a name, as `models.weights.load_weights` takes them.
        seed: of every random choice.
        float32: train in float32 also where bfloat16 would be faster.
    """

    dataset: str
    row: str
    profile: str
    arch: str
    weights: str
    seed: int
    float32: bool = False

    def settings(self) -> Profile:
        """The profile with the row's change.

        Raises:
            ValueError: unknown row or profile.
        """
        if self.row not in ROWS:
            raise ValueError(f"unknown row '{self.row}'; known: {', '.join(ROWS)}")
        return ROWS[self.row].change(find_profile(self.profile))

    @property
    def start(self) -> str:
        """The start weights by their file's name: no path."""
        return Path(self.weights.partition("#")[0]).name.removesuffix(".safetensors")

    def start_net(self) -> ReidNet:
        """The network with its start weights."""
        from models.reid import build_reid
        from models.weights import load_weights

        net = build_reid(self.arch)
        load_weights(net, self.weights)
        return net

    def command(self) -> str:
        """What to type to have it answered again; the places of files are left to whoever types it."""
        return (
            f"python -m calr benchmark {self.dataset} --root {self.dataset.upper()} --row '{self.row}' "
            f"--profile {self.profile} --arch {self.arch} --init {self.start}.safetensors --seed {self.seed}"
            + (" --float32" if self.float32 else "")
        )

    def identity(self) -> str:
        """Changes whenever the answer might."""
        settings = None if self.row == DIRECT else self.settings().as_json()
        text = json.dumps(
            [METHOD, self.dataset, settings, self.arch, self.start, self.seed, *["float32"] * self.float32],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_benchmark(
    question: Question,
    root: Path,
    folder: Path,
    precision: Precision,
    on_step: Progress = lambda what, done, total: None,
    judge_epochs: bool = False,
) -> dict[str, Any]:
    """Answer a question, or go on with answering it.

    Args:
        question: what to train, from what.
        root: folder of the data set.
        folder: runs lie in it, a folder each; what was trained lies in the run's as `bundle`.
        precision: device and number format of training; scoring is float32.
        on_step: told about progress.
        judge_epochs: keep every epoch's model and compare its label-free score with its mAP
            (`calr.score_correlation`); the result lies in the run's folder as score_correlation.json.

    Returns:
        A line for docs/accuracy.jsonl, plus "new": whether it was found just now. Under torchrun only the first process
        gets the line; the others help with training.

    Raises:
        DatasetError, ValueError: no such data set, row, profile or weights.
    """
    run = (
        folder
        / f"{question.dataset}-{question.row.replace(',', '').replace(' ', '-')}-{question.seed}-{question.identity()}"
    )
    answer = run / "result.json"
    if answer.is_file():
        return {**json.loads(answer.read_text(encoding="utf-8")), "new": False}
    parts = load_benchmark(question.dataset, root)
    net, trained = _trained(question, parts, run, precision, on_step, None if judge_epochs else KEPT)
    if not is_first():
        return {"new": False}
    write_calibrated_bundle(run, net, parts)
    scores = score(net, parts, precision, on_step)
    line = {
        "row": question.row,
        "start": question.start,
        "seed": question.seed,
        "dataset": question.dataset,
        "profile": question.profile,
        **scores,
        **trained,
        "device": device_name(precision),
        "commit": _commit(),
        "command": question.command(),
    }
    if judge_epochs:
        found = score_correlation(question.start_net, run / "checkpoints", parts, precision, on_step)
        write_json(run / "score_correlation.json", found)
        line["score_correlation"] = found["spearman"]
    write_json(answer, line)
    return {**line, "new": True}


def _trained(
    question: Question, parts: Benchmark, run: Path, precision: Precision, on_step: Progress, kept: int | None
) -> tuple[ReidNet, dict[str, Any]]:
    from calr.run_report import write_run_report
    from calr.training_run import run_training

    settings = question.settings()
    run.mkdir(parents=True, exist_ok=True)
    if question.row == DIRECT:
        return question.start_net().to(precision.device), {"epochs": 0, "iterations": 0, "batch": 0, "seconds": 0.0}
    data = training_set(parts, run, on_step)
    result = run_training(question.start_net, data, settings, question.seed, precision, run, on_step=on_step, kept=kept)
    if is_first():
        write_json(run / "history.json", result.history)
        on_step("drawing the report", 0, 1)
        write_run_report(run, data, question.start_net(), result, _status(question, data, result), precision)
    return result.net.to(precision.device), {
        "epochs": settings.inter.epochs,
        "intra_epochs": 0 if settings.intra is None else settings.intra.epochs,
        "iterations": settings.inter.iterations(len(data)),
        "batch": settings.inter.batch,
        "seconds": round(result.seconds, 1),
        "last_epoch": {key: result.history[-1].get(key) for key in ("clusters", "global", "refined")},
    }


def _status(question: Question, data: TrainingSet, result: RunResult) -> dict[str, Any]:
    """What a run's report says of it."""
    return {
        "run_id": f"{question.dataset}, {question.row}, seed {question.seed}",
        "profile": question.profile,
        "arch": question.arch,
        "labels": "none",
        "counts": {"crops": len(data), "tracklets": data.nodes, "cameras": len(data.camera_ids)},
        "seconds": result.seconds,
        "notices": result.notices,
    }


def write_calibrated_bundle(run: Path, net: ReidNet, parts: Benchmark) -> Bundle:
    """The network as the bundle of its run, calibrated as a site's is: on the training part, by what the run's epochs
    took for one person. Without any, as in the row that trains nothing, it stays uncalibrated."""
    from calr.benchmark_evaluation import embed_split
    from calr.training_run import global_labels
    from models.bundle import write_bundle
    from models.embedder import Embedder

    epochs = global_labels(run)

    def calibrate(bundle: Bundle) -> Calibration | None:
        vectors, train = embed_split(Embedder(bundle), parts.train, "the training part")
        return fit_calibration(vectors, train.cameras, epochs)

    return write_bundle(run / "bundle", net, parts.input_size, calibrate=calibrate if epochs else None)


def training_set(parts: Benchmark, cache: Path, on_step: Progress) -> TrainingSet:
    """The training part, decoded once, every image a node of its own."""
    from calr.training_set import from_single_crops

    images, train = read_split(
        parts.train,
        parts.input_size,
        own_file(cache / "train.cache"),
        lambda done, total: on_step("reading the training part", done, total),
    )
    names = sorted(set(train.cameras.tolist()))
    return from_single_crops(
        images,
        np.searchsorted(names, train.cameras).astype(np.int64),
        [str(name) for name in names],
        train.identities,
    )


def score(net: ReidNet, parts: Benchmark, precision: Precision, on_step: Progress) -> dict[str, Any]:
    """mAP, rank1, rank5, rank10, queries and gallery of a network on the test part, by the protocol of `calr.metrics`,
    in float32; and how many images were unreadable, if any."""
    from calr.features import extract
    from calr.precision import Precision as Format

    exact = Format(precision.device, bf16=False)

    def features(split: Split, what: str) -> tuple[NDArray[np.float32], Split]:
        images, read = read_split(
            split, parts.input_size, on_step=lambda done, total: on_step(f"reading {what}", done, total)
        )
        return extract(net, images, exact, on_step=lambda done, total: on_step(f"scoring {what}", done, total)), read

    (asking, query), (answering, gallery) = features(parts.query, "query"), features(parts.gallery, "gallery")
    positive, valid = same_identity_same_camera_excluded(
        query.identities, query.cameras, gallery.identities, gallery.cameras
    )
    found = evaluate_ranking(1.0 - asking @ answering.T, positive, valid).as_dict()
    return {**found, **left_out([parts.query, parts.gallery], [query, gallery])}


def device_name(precision: Precision) -> str:
    """What it was computed on, for the table."""
    import torch

    kind = "bf16" if precision.bf16 else "float32"
    if precision.device == "cuda":
        return f"{torch.cuda.get_device_name()}, {kind}"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} CPU core{'s' * (cores > 1)}, {kind}"


def _commit() -> str:
    """The checkout's commit, with "+" where it has changes; "unknown" outside a checkout."""
    here = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
