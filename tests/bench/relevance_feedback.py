"""What confirming and rejecting hits is worth: remaining hits before and after, against the true identities.

    tests/bench/relevance_feedback.py --site FOLDER                        a site with ground truth, indexed
    tests/bench/relevance_feedback.py --market1501 ROOT --model BUNDLE     400 of its queries, drawn with a seed

Somebody looks through the first 20 hits of a search, confirms the first c right ones and rejects the first r wrong
ones. What was judged is then taken out of both rankings (the residual collection), so that only what is still to be
found counts; searches with nothing left to find are left out, so rows of other c have other searches. One JSON object
per c and r: mean average precision, and the share of what remains that is among the next 10 hits.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from gallery_service.investigations.refinement import Evidence

PAGE = 20
CONFIRMED, REJECTED = (0, 1, 2, 3), (0, 1, 3)
# As a refined search does it: so many candidates by the prototype are put in order again.
CANDIDATES = 100
QUERIES, SEED = 400, 1

Search = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]
"""A query (D,), the gallery (N, D), which rows are the same person (N,)."""


def site_searches(folder: Path) -> Iterator[Search]:
    """Every tracklet of somebody whom another camera saw too, among the tracklets of the other cameras."""
    from gallery_service.search.site_search import SiteSearch
    from gallery_service.settings import ServiceSettings
    from ingest.shards import list_shards
    from ingest.site import load_site
    from ingest.workspace import Workspace

    site = load_site(str(folder))
    truth: dict[str, int] = {}
    for shard in list_shards(Workspace(site)):
        for name, who in shard.summary["ground_truth"]["tracklets"].items():
            if who["person_id"] is not None:
                truth[name] = who["person_id"]
    gallery = SiteSearch(site, ServiceSettings(threads=1)).refresh()
    vectors = gallery.index.vectors(np.arange(len(gallery.index)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    person = np.array([truth.get(name, -1) for name in gallery.columns.tracklet_ids])
    for row, camera in enumerate(gallery.columns.camera):
        elsewhere = gallery.columns.camera != camera
        if person[row] >= 0 and (person[elsewhere] == person[row]).any():
            yield vectors[row], vectors[elsewhere], person[elsewhere] == person[row]


def market_searches(root: Path, model: Path) -> Iterator[Search]:
    """Images of Market-1501; those of the query's own camera and person are left out, as the benchmark does."""
    from calr.benchmark_images import subset
    from calr.datasets import load_benchmark
    from models.bundle import load_bundle
    from models.embedder import Embedder
    from models.images import decode_image

    embedder = Embedder(load_bundle(model))
    benchmark = load_benchmark("market1501", root)
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(benchmark.query.files))[:QUERIES])
    query, gallery = subset(benchmark.query, chosen), benchmark.gallery

    def embedded(files: Sequence[Path]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(files), 1024):
            crops = [decode_image(file.read_bytes(), what=str(file)) for file in files[start : start + 1024]]
            parts.append(embedder.embed(crops))
        return np.concatenate(parts)

    queries, vectors = embedded(query.files), embedded(gallery.files)
    for row, vector in enumerate(queries):
        same = gallery.identities == query.identities[row]
        kept = ~(same & (gallery.cameras == query.cameras[row]))
        yield vector, vectors[kept], same[kept]


def judged(search: Search) -> Iterator[tuple[int, int, dict[str, tuple[float, float]]]]:
    """What each way of searching again finds of what remains, for every c and r that the first page allows."""
    query, gallery, same = search
    first = gallery @ query
    page = np.argsort(-first, kind="stable")[:PAGE]
    right, wrong = page[same[page]], page[~same[page]]
    for c in CONFIRMED:
        for r in REJECTED:
            if len(right) < c or len(wrong) < r:
                continue
            left = np.ones(len(gallery), np.bool_)
            left[right[:c]] = left[wrong[:r]] = False
            if not same[left].any():
                continue
            evidence = Evidence(np.vstack([query[None], gallery[right[:c]]]), gallery[wrong[:r]])
            rest, truth = gallery[left], same[left]
            prototype = rest @ evidence.prototype()
            away = prototype - (0.25 * (rest @ evidence.rejected.mean(axis=0)) if r else 0)
            refined = np.argsort(-prototype, kind="stable")
            refined[:CANDIDATES] = refined[:CANDIDATES][evidence.order(rest[refined[:CANDIDATES]])]
            yield (
                c,
                r,
                {
                    "before": found(np.argsort(-first[left], kind="stable"), truth),
                    "prototype": found(np.argsort(-prototype, kind="stable"), truth),
                    "rocchio": found(np.argsort(-away, kind="stable"), truth),
                    "refined": found(refined, truth),
                },
            )


def found(order: NDArray[np.int64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Average precision, and recall at 10, of one ranking."""
    ranks = np.flatnonzero(truth[order]) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks)), float((ranks <= 10).mean())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What confirming and rejecting hits is worth.")
    parser.add_argument("--site", type=Path)
    parser.add_argument("--market1501", type=Path)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    searches = site_searches(given.site) if given.site else market_searches(given.market1501, given.model)
    rows: dict[tuple[int, int], list[dict[str, tuple[float, float]]]] = {}
    for search in searches:
        for c, r, ways in judged(search):
            rows.setdefault((c, r), []).append(ways)
    for (c, r), ways in sorted(rows.items()):
        line = {"data": "site" if given.site else "market1501", "confirmed": c, "rejected": r, "searches": len(ways)}
        for way in ways[0]:
            precision, recall = np.mean([one[way] for one in ways], axis=0)
            line |= {way: {"mAP": round(float(precision), 4), "recall10": round(float(recall), 4)}}
        print(json.dumps(line))


if __name__ == "__main__":
    main()
