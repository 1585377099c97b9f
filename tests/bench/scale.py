"""How time and memory grow with the number of crops, on real features: one JSON object per line on standard output.

    .venv/bin/python tests/bench/scale.py --root MARKET1501 --init WEIGHTS

Features are those of Market-1501's images by the start weights; beyond its 32,668 they are jittered copies. Every
measurement is a process of its own, so that its peak memory is its own (`mib`: without what was in use before). `step`
is a whole epoch's clustering and refinement (`calr.inter_camera`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TRAINING, ALL, MANY = 12_936, 32_668, 100_000
MEASUREMENTS = (
    ("sparse", TRAINING),
    ("dense", TRAINING),
    ("sparse", ALL),
    ("dense", ALL),
    ("sparse", MANY),
    ("step", TRAINING),
    ("step", ALL),
    ("step", MANY),
)


def market_features(root: Path, weights: str, folder: Path) -> None:
    """features.npy (32,668, D) and camera.npy, the training part first."""
    from rich.progress import track

    from calr.benchmark_images import read_split
    from calr.datasets import load_benchmark
    from calr.features import extract
    from calr.precision import best_precision
    from models.reid import build_reid
    from models.weights import load_weights

    parts = load_benchmark("market1501", root)
    net = build_reid("osnet_x0_25")
    load_weights(net, weights)
    # The test part in full, with the junk that evaluation leaves out, has 19,732 images.
    junk = _junk(root)
    features, cameras = [], []
    for split in track([parts.train, parts.gallery, junk], "features"):
        images, read = read_split(split, parts.input_size)
        features.append(extract(net, images, best_precision()))
        cameras.append(read.cameras - 1)
    np.save(folder / "features.npy", np.concatenate(features))
    np.save(folder / "camera.npy", np.concatenate(cameras).astype(np.int64))


def _junk(root: Path) -> Any:
    from calr.datasets import Split

    nested = root / "Market-1501-v15.09.15"
    files = sorted(((nested if nested.is_dir() else root) / "bounding_box_test").glob("-1_*.jpg"))
    cameras = [int(file.name.split("_c")[1][0]) for file in files]
    return Split(files, np.full(len(files), -1), np.asarray(cameras, np.int64))


def take(features: NDArray[np.float32], camera: NDArray[np.int64], n: int) -> tuple[Any, Any]:
    """The first n, or jittered copies, which differ from their originals about as much as two crops of a tracklet."""
    if n <= len(features):
        return features[:n], camera[:n]
    draw = np.random.default_rng(0)
    rows = np.arange(n) % len(features)
    copies = features[rows] + 0.25 / np.sqrt(features.shape[1]) * draw.normal(size=(n, features.shape[1])).astype("f4")
    return (copies / np.linalg.norm(copies, axis=1, keepdims=True)).astype(np.float32), camera[rows]


def work(form: str, features: NDArray[np.float32], camera: NDArray[np.int64]) -> Callable[[], Any]:
    if form == "sparse":
        from models.matching.jaccard import jaccard_distance

        return lambda: jaccard_distance(features, 15, 4)
    if form == "dense":
        from tests.bench.dense_jaccard import dense_jaccard

        return lambda: dense_jaccard(features, 15, 4)
    import torch

    from calr.inter_camera import InterCamera
    from calr.intra_camera import find_local_clusters
    from calr.precision import Precision
    from calr.profiles import find_profile
    from calr.training_set import from_single_crops
    from models.reid import build_reid

    names = [str(name) for name in range(int(camera.max()) + 1)]
    data = from_single_crops(torch.zeros((len(camera), 3, 1, 1), dtype=torch.uint8), camera, names)
    profile = find_profile("gpu-paper")
    stage = InterCamera(build_reid("osnet_x0_25"), data, profile, 1, Precision("cpu", False), None)
    # In every epoch but the first, how many nodes a person leaves is known, and so are earlier local clusters.
    stage.local = find_local_clusters(features, data, profile)
    stage.nodes_per_person = data.nodes / stage.local.count
    return lambda: stage._cluster(features)


def measure(form: str, n: int, folder: Path) -> dict[str, Any]:
    features, camera = take(np.load(folder / "features.npy"), np.load(folder / "camera.npy"), n)
    run = work(form, features, camera)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use now
    before = memory_mib()[0]
    began = time.perf_counter()
    run()
    seconds = time.perf_counter() - began
    peak = memory_mib()[1]
    return {"what": form, "n": n, "seconds": round(seconds, 2), "mib": peak - before, "process_mib": peak}


def memory_mib() -> tuple[int, int]:
    """Resident memory of this process, now and at its peak."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) // 1024, int(lines["VmHWM"].split()[0]) // 1024


def agreement(folder: Path) -> dict[str, Any]:
    """Where sparse and dense differ on the training part: ranked in float32 by the dense form, and in float64."""
    from models.matching.jaccard import jaccard_distance
    from tests.bench.dense_jaccard import dense_jaccard

    features = np.load(folder / "features.npy")[:TRAINING]
    sparse = 1 - jaccard_distance(features, 15, 4).toarray()
    rows = {}
    for kind in (np.float32, np.float64):
        dense = dense_jaccard(features.astype(kind), 15, 4)
        dense -= sparse
        np.abs(dense, out=dense)
        rows[np.dtype(kind).name] = {"largest": float(dense.max()), "rows": int((dense > 1e-6).any(axis=1).sum())}
    return {"what": "sparse against dense", "n": TRAINING, **rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of Market-1501")
    parser.add_argument("--init", help="start weights of OSNet x0.25")
    parser.add_argument("--only", nargs="*", help="names of measurements, all by default")
    parser.add_argument("--measure", nargs=3, metavar=("FORM", "N", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        form, n, folder = asked.measure
        found = agreement(Path(folder)) if form == "agreement" else measure(form, int(n), Path(folder))
        print(json.dumps(found))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        market_features(asked.root, asked.init, Path(folder))
        for form, n in (*MEASUREMENTS, ("agreement", TRAINING)):
            if not asked.only or form in asked.only:
                subprocess.run([sys.executable, __file__, "--measure", form, str(n), folder], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
