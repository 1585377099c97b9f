"""Every benchmark against a named rival in the same run, one JSON object per line on standard output.

    make bench

Times are medians of a few repetitions in one process and only mean something as ratios: machines are noisy.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np


def seconds(work: Callable[[], object], repetitions: int = 5) -> float:
    """Median time of the work, after one run that does not count."""
    work()
    taken = []
    for _ in range(repetitions):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)


def embed_crops() -> dict[str, object]:
    """The exported graph in onnxruntime against the same network in PyTorch, float32, eager; 64 crops of 256×128."""
    import torch
    import torch.nn.functional as F

    from models.bundle import write_bundle
    from models.embedder import Embedder
    from models.preprocess import normalise, to_batch
    from models.reid import build_reid

    torch.manual_seed(0)
    net = build_reid("osnet_x0_25").eval()
    crops = list(np.random.default_rng(0).integers(0, 256, (64, 180, 80, 3), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        embedder = Embedder(write_bundle(Path(folder) / "bundle", net, (256, 128)))

        def rival() -> None:
            with torch.no_grad():
                F.normalize(net(normalise(torch.from_numpy(to_batch(crops, (256, 128))))))

        ours, theirs = seconds(lambda: embedder.embed(crops)), seconds(rival)
    return {
        "crops_per_s": len(crops) / ours,
        "rival": "torch eager float32",
        "rival_per_s": len(crops) / theirs,
        "ratio": theirs / ours,
    }


def training_step() -> dict[str, object]:
    """A training step as `calr.training_loop` takes it against plain PyTorch, float32 and contiguous; OSNet x0.25, 64
    crops of 256 × 128."""
    import torch
    import torch.nn.functional as F

    from calr.precision import Precision, best_precision
    from models.preprocess import normalise
    from models.reid import build_reid

    torch.manual_seed(0)
    batch = torch.randint(0, 256, (64, 3, 256, 128), dtype=torch.uint8)
    centroids = F.normalize(torch.randn(500, 512), dim=1)
    labels = torch.randint(0, 500, (64,))

    def step_of(precision: Precision, layout: torch.memory_format) -> Callable[[], object]:
        net = build_reid("osnet_x0_25").train().to(memory_format=layout)
        optimiser = torch.optim.Adam(net.parameters(), 3.5e-4)

        def step() -> None:
            with precision.autocast():
                features = net(normalise(batch.float()).contiguous(memory_format=layout))
            loss = F.cross_entropy(F.normalize(features.float(), dim=1) @ centroids.T / 0.05, labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

        return step

    best = best_precision()
    ours = seconds(step_of(best, torch.channels_last), 3)
    theirs = seconds(step_of(Precision(best.device, bf16=False), torch.contiguous_format), 3)
    return {
        "seconds": ours,
        "bf16": best.bf16,
        "rival": "plain float32",
        "rival_seconds": theirs,
        "ratio": theirs / ours,
    }


def features() -> dict[str, object]:
    """Features in training (`calr.features.extract`) against the same network in PyTorch, eager and float32; OSNet
    x0.25, 6,144 crops of 256 × 128, about as many as a small benchmark has."""
    import torch
    import torch.nn.functional as F

    from calr.features import extract
    from calr.precision import best_precision
    from models.preprocess import normalise
    from models.reid import build_reid

    torch.manual_seed(0)
    net = build_reid("osnet_x0_25").eval()
    images = torch.randint(0, 256, (6144, 3, 256, 128), dtype=torch.uint8)

    def rival() -> None:
        with torch.no_grad():
            for start in range(0, len(images), 64):
                F.normalize(net(normalise(images[start : start + 64].float())))

    ours, theirs = seconds(lambda: extract(net, images, best_precision()), 1), seconds(rival, 1)
    return {
        "crops_per_s": len(images) / ours,  # with compiling, which is done once an epoch
        "rival": "torch eager float32",
        "rival_per_s": len(images) / theirs,
        "ratio": theirs / ours,
    }


def jaccard() -> dict[str, object]:
    """Sparse k-reciprocal Jaccard against the common dense way; 8,000 vectors of about 20 a person, k1 = 15, k2 = 4."""
    from models.matching.jaccard import jaccard_distance
    from tests.bench.dense_jaccard import dense_jaccard

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(400, 128))
    features = centres[rng.integers(0, 400, 8000)] + 0.6 * rng.normal(size=(8000, 128))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    ours = seconds(lambda: jaccard_distance(features, 15, 4), 3)
    theirs = seconds(lambda: dense_jaccard(features, 15, 4), 1)
    return {"seconds": ours, "rival": "dense numpy", "rival_seconds": theirs, "ratio": theirs / ours}


def filtered_search() -> dict[str, object]:
    """A filter inside the FAISS search against searching everything and filtering after; 100,000 × 512, 10 % pass."""
    import faiss

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(100_000, 512)).astype(np.float32)
    faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(512)
    index.add(vectors)
    passing = np.flatnonzero(rng.random(100_000) < 0.1)
    selector = faiss.SearchParameters(sel=faiss.IDSelectorBatch(passing))
    query = vectors[:1]

    def after() -> None:
        found = index.search(query, len(vectors))[1][0]
        found[np.isin(found, passing)][:20]

    ours = seconds(lambda: index.search(query, 20, params=selector))
    return {"seconds": ours, "rival": "search all, filter after", "ratio": seconds(after) / ours}


BENCHMARKS = (embed_crops, training_step, features, jaccard, filtered_search)


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the rivals live with the tests
    for benchmark in BENCHMARKS:
        print(json.dumps({"benchmark": benchmark.__name__, **benchmark()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
