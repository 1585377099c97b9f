"""report.html of a training run: one file, no links to outside, readable by whoever has to judge the run."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calr.feature_map import Named, draw_feature_maps, sample_nodes
from calr.training_set import TrainingSet
from models.atomic import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from calr.precision import Precision
    from calr.training_run import RunResult
    from models.reid import ReidNet

EXAMPLES = 8
CROPS_PER_ROW, CROPS_KEPT_BEFORE_DISCARDED = 14, 8
QUALITY = {
    "precision": "pairs: precision",
    "recall": "pairs: recall",
    "f": "pairs: F",
    "expansion": "clusters per person",
    "nmi": "normalised mutual information",
}
"""What `calr.cluster_quality` measures, as a panel says it."""
INTRA, INTER, THIRD = "#7a869a", "#1f5fbf", "#c2571a"


@dataclass(frozen=True)
class CropPicture:
    """A crop in the report: JPEG as data URI, and what is written under it."""

    uri: str
    camera: str


@dataclass(frozen=True)
class CropRow:
    """A row of crops under a title; `discarded` are the crops that refinement took out."""

    title: str
    crops: list[CropPicture]
    discarded: list[CropPicture]


def write_run_report(
    folder: Path, data: TrainingSet, start: ReidNet, result: RunResult, status: dict[str, Any], precision: Precision
) -> Path:
    """Write report.html into the run's folder.

    Args:
        folder: of the run, with its labels.
        data: the crops.
        start: the network before training.
        result: of the run.
        status: what run.json will say.
        precision: device and number format of the networks.

    Returns:
        The report's path.
    """
    from jinja2 import Environment, PackageLoader

    template = Environment(loader=PackageLoader("calr", "templates"), autoescape=True).get_template("run_report.html")
    labels = _last_labels(folder, "inter")
    page = template.render(
        status=status,
        notices=status["notices"],
        facts=_facts(result, status),
        curves=_data_uri(draw_curves(result.history), "svg+xml"),
        sizes=_data_uri(draw_sizes(labels["crop"], data), "svg+xml") if _any(labels) else None,
        known=any("global" in record or "local" in record for record in result.history),
        maps=_feature_maps(data, start, result.net, precision),
        epochs=_epoch_table(result.history),
        clusters=example_clusters(labels, data) if _any(labels) else [],
        refined=refinement_examples(labels, data) if _any(labels) and "refined" in labels else [],
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _feature_maps(data: TrainingSet, start: ReidNet, trained: ReidNet, precision: Precision) -> str:
    from calr.features import extract

    crops = sample_nodes(data.node)
    maps = [
        Named(name, extract(net.to(precision.device), data.images[crops], precision))
        for name, net in (("before training", start), ("after", trained))
    ]
    return _data_uri(draw_feature_maps(maps, data.camera[crops], data.camera_ids), "png")


def _any(labels: dict[str, NDArray[np.int64]]) -> bool:
    return "crop" in labels and bool((labels["crop"] >= 0).any())


def _last_labels(folder: Path, stage: str) -> dict[str, NDArray[np.int64]]:
    from safetensors.numpy import load_file

    files = sorted((folder / "labels").glob(f"{stage}-*.safetensors"))
    return load_file(files[-1]) if files else {}


def _facts(result: RunResult, status: dict[str, Any]) -> list[tuple[str, str]]:
    counts = status["counts"]
    facts = [
        ("run", status["run_id"]),
        ("profile", f"{status['profile']}, {status['arch']}"),
        ("labels", "found by the method" if status["labels"] == "none" else "true identities (ceiling)"),
        ("data", f"{counts['crops']} crops, {counts['tracklets']} tracklets, {counts['cameras']} cameras"),
        ("time", f"{status['seconds']:.0f} s"),
    ]
    inter = [record for record in result.history if record["stage"] == "inter" and "graph" in record]
    if inter:
        chosen = ", ".join(f"{name} {value:.3g}" for name, value in inter[-1]["graph"].items())
        facts.append(("graph, last epoch", f"{chosen}, {inter[-1]['links']} links"))
    return facts


def _epoch_table(history: list[dict[str, Any]]) -> list[list[str]]:
    known = any("global" in record or "local" in record for record in history)
    head = ["stage", "epoch", "loss", "step size", "clusters", "trained on", "discarded", "silhouette", "camera told"]
    rows = [[*head, "precision", "recall", "F", "expansion", "NMI"] if known else head]
    for record in history:
        agreement = record.get("refined") or record.get("local") or {}
        row = [
            record["stage"],
            str(record["epoch"] + 1),
            _number(record.get("loss"), ".3f"),
            _number(record.get("lr"), ".1e"),
            _number(record.get("clusters"), "d"),
            _number(record.get("trained_clusters"), "d"),
            _number(record.get("discarded"), ".0%"),
            _number(record.get("silhouette"), ".3f"),
            _number(record.get("camera_accuracy"), ".0%"),
        ]
        if known:
            row += [_number(agreement.get(name), ".3f") for name in QUALITY]
        rows.append(row)
    return rows


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def draw_curves(history: list[dict[str, Any]]) -> bytes:
    """Six small panels over all epochs, with true identities also those of CALR figure 5, as SVG."""
    from matplotlib.figure import Figure

    known = any("global" in record or "local" in record for record in history)
    rows = 4 if known else 2
    figure = Figure(figsize=(11, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).ravel().tolist()
    panels: list[tuple[str, list[tuple[str, str, str | tuple[str, str]]]]] = [
        ("contrastive loss", [("intra", INTRA, "loss_contrastive"), ("inter", INTER, "loss_contrastive")]),
        (
            "clusters",
            [("intra", INTRA, "clusters"), ("inter", INTER, "clusters"), ("inter", THIRD, "trained_clusters")],
        ),
        ("silhouette", [("intra", INTRA, "silhouette"), ("inter", INTER, "silhouette")]),
        ("share of clustered crops", [("inter", INTER, "doubted"), ("inter", THIRD, "discarded")]),
        ("share of crops not trained on", [("inter", INTER, "unused_crops")]),
        ("camera told from features", [("inter", INTER, "camera_accuracy")]),
    ]
    panels += [
        (
            title,
            [
                ("intra", INTRA, ("local", part)),
                ("inter", INTRA, ("local", part)),
                ("inter", INTER, ("global", part)),
                ("inter", THIRD, ("refined", part)),
            ],
        )
        for part, title in (QUALITY.items() if known else ())
    ]
    for axis, (title, lines) in zip(axes, panels, strict=False):
        _panel(axis, title, lines, history)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return _svg(figure)


def _panel(
    axis: Axes, title: str, lines: list[tuple[str, str, str | tuple[str, str]]], history: list[dict[str, Any]]
) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    shares = True
    for stage, colour, key in lines:
        x, y = [], []
        for number, record in enumerate(history):
            value = record.get(key) if isinstance(key, str) else record.get(key[0], {}).get(key[1])
            if record["stage"] == stage and value is not None:
                x.append(number + 1)
                y.append(float(value))
        if x:
            name = key if isinstance(key, str) else key[0]
            axis.plot(x, y, color=colour, marker="o", markersize=3, linewidth=1.5, label=f"{stage}: {name}")
            shares &= max(y) <= 1 and min(y) >= 0
    boundary = sum(record["stage"] == "intra" for record in history) + 0.5
    if 1 < boundary < len(history) + 0.5:
        axis.axvline(boundary, color="#bbbbbb", linewidth=1, linestyle=":")
    axis.set_xlim(0.5, len(history) + 0.5)
    if shares and title != "silhouette":
        axis.set_ylim(0, 1.02)
    elif title in ("clusters", "contrastive loss"):
        axis.set_ylim(bottom=0)
    axis.set_xlabel("epoch", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(color="#eeeeee")
    axis.spines[["top", "right"]].set_visible(False)
    if axis.lines and axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=7, frameon=False)
    else:
        axis.text(0.5, 0.5, "not part of this run", transform=axis.transAxes, ha="center", color="#999999", fontsize=8)


def draw_sizes(crop_labels: NDArray[np.int64], data: TrainingSet) -> bytes:
    """Two histograms of the clusters trained on last: crops per cluster, cameras per cluster. SVG."""
    from matplotlib.figure import Figure

    kept = crop_labels >= 0
    sizes = np.bincount(crop_labels[kept])
    pairs = np.unique(np.stack([crop_labels[kept], data.camera[kept]]), axis=1)
    cameras = np.bincount(pairs[0], minlength=len(sizes))
    figure = Figure(figsize=(11, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(sizes, bins=min(30, max(5, len(sizes) // 2)), color=INTER)
    left.set_title(f"crops per cluster ({len(sizes)} clusters)", fontsize=10, loc="left")
    right.bar(*np.unique(cameras, return_counts=True), color=INTER, width=0.7)
    right.set_xticks(np.arange(1, len(data.camera_ids) + 1) if len(data.camera_ids) <= 20 else [])
    right.set_title("cameras per cluster", fontsize=10, loc="left")
    for axis in (left, right):
        axis.set_ylabel("clusters", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def example_clusters(labels: dict[str, NDArray[np.int64]], data: TrainingSet) -> list[CropRow]:
    """Clusters of the last epoch, evenly picked from the most to the least crops, cameras in turn."""
    sizes = np.bincount(labels["crop"][labels["crop"] >= 0])
    order = np.argsort(-sizes, kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).astype(int))]
    rows = []
    for cluster in picked.tolist():
        members = np.flatnonzero(labels["crop"] == cluster)
        seen = len(np.unique(data.camera[members]))
        title = (
            f"cluster {cluster}: {len(members)} crops, {seen} camera{'s' if seen > 1 else ''}{_truth(members, data)}"
        )
        rows.append(CropRow(title, _pictures(_cameras_in_turn(members, data)[:CROPS_PER_ROW], data), []))
    return rows


def refinement_examples(labels: dict[str, NDArray[np.int64]], data: TrainingSet, count: int = 3) -> list[CropRow]:
    """The clusters that refinement took most crops from: what stayed, what went."""
    before = labels["global"][data.node]
    gone = (before >= 0) & (labels["refined"][data.node] < 0)
    if not gone.any():
        return []
    lost = np.bincount(before[gone], minlength=int(before.max()) + 1)
    rows = []
    for cluster in np.argsort(-lost, kind="stable")[:count].tolist():
        if lost[cluster] == 0:
            break
        stayed, left = np.flatnonzero((before == cluster) & ~gone), np.flatnonzero((before == cluster) & gone)
        rows.append(
            CropRow(
                f"global cluster {cluster}: {len(stayed)} crops kept{_truth(stayed, data)}, "
                f"{len(left)} discarded{_truth(left, data)}",
                _pictures(_cameras_in_turn(stayed, data)[:CROPS_KEPT_BEFORE_DISCARDED], data),
                _pictures(_cameras_in_turn(left, data)[: CROPS_KEPT_BEFORE_DISCARDED // 2], data),
            )
        )
    return rows


def _truth(members: NDArray[np.int64], data: TrainingSet) -> str:
    if data.identity is None or len(members) == 0:
        return ""
    people, counts = np.unique(data.identity[members], return_counts=True)
    named = len(people[people >= 0])
    return f" (truly {named} {'person' if named == 1 else 'people'}, {counts.max() / counts.sum():.0%} of one)"


def _cameras_in_turn(members: NDArray[np.int64], data: TrainingSet) -> NDArray[np.int64]:
    """Members ordered so that cameras alternate, and within a camera its nodes."""
    node_turn = np.zeros(len(members), dtype=np.int64)
    camera_turn = np.zeros(len(members), dtype=np.int64)
    seen: dict[int, int] = {}
    for i, member in enumerate(members.tolist()):
        node_turn[i] = seen[int(data.node[member])] = seen.get(int(data.node[member]), -1) + 1
    order = np.lexsort((members, node_turn))
    counts: dict[int, int] = {}
    for i in order.tolist():
        camera = int(data.camera[members[i]])
        camera_turn[i] = counts[camera] = counts.get(camera, -1) + 1
    return members[np.lexsort((data.camera[members], camera_turn))]


def _pictures(crops: NDArray[np.int64], data: TrainingSet) -> list[CropPicture]:
    pictures = []
    for crop in crops.tolist():
        rgb = data.images[crop].numpy().transpose(1, 2, 0)
        done, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80])
        assert done
        pictures.append(CropPicture(_data_uri(jpeg.tobytes(), "jpeg"), data.camera_ids[int(data.camera[crop])]))
    return pictures


def _svg(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
