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


BENCHMARKS = (embed_crops, jaccard, filtered_search)


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the rivals live with the tests
    for benchmark in BENCHMARKS:
        print(json.dumps({"benchmark": benchmark.__name__, **benchmark()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
