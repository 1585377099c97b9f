"""Search in a large gallery, against its rivals on the same vectors: one JSON object per line on standard output.

    .venv/bin/python tests/bench/search_scale.py > docs/search.jsonl

Vectors are synthetic (`people`), with the statistics of real features. The rivals: FAISS' flat fp16 index, with a
bitmap selector where there is a filter; milvus-lite and qdrant-client's local mode, which take about an hour for a
million (`--only` leaves them out). These two are no dependencies of the project; install them beside it first:

    pip install pymilvus milvus-lite qdrant-client

Every search is asked of ours and of the rival in turn, so that both meet the same machine. Times are of one query, ours
with working out which rows pass, the rivals' with the filter made ready. `cpu_ms` is the median time that the process'
threads computed, which other work on the machine changes less. Memory and build time are measured in processes of
their own (`mib`: without what was in use before; the vectors are part of it).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gallery_service.search.filters import FilterColumns, SearchFilters
from gallery_service.search.index import SCORE_STEP, TrackletIndex

DIM, CAMERAS, PER_PERSON, QUERIES, K = 512, 20, 17, 200, 10
_BLOCK = 50_000
_REAL_TIME = "SEARCH_SCALE_REAL_TIME"
_DAY = 86_400_000_000


def directions(generator: np.random.Generator, reach: float, energy: float, count: int = 256) -> NDArray[np.float32]:
    """Random orthogonal directions, as long as the standard deviation there, (count, DIM)."""
    number = np.arange(count)
    variance = (1 + number) ** -0.6 * np.exp(-number / reach)
    basis = np.linalg.qr(generator.normal(size=(DIM, DIM)))[0][:count]
    return (basis * np.sqrt(energy * variance / variance.sum())[:, None]).astype(np.float32)


def people(count: int, folder: Path) -> None:
    """Write `count` tracklets' vectors (fp16) and some queries, further tracklets of the same people.

    Means and spectra, between people and within one, are those of OSNet x0.25 (MSMT17) on Market-1501's training part,
    where a tracklet is all images of a person in a camera: mean vector 0.565 long, variance between people 0.46 in
    about 28 directions, within one 0.29 in about 46, part of which is the camera's.
    """
    generator = np.random.default_rng(0)
    between, within = directions(generator, 40, 0.46), directions(generator, 60, 0.29)
    common = generator.normal(size=DIM)
    common *= 0.565 / np.linalg.norm(common)
    total = count + QUERIES
    person = generator.integers(0, count // PER_PERSON, total)
    camera = np.concatenate([np.sort(generator.integers(0, CAMERAS, count)), generator.integers(0, CAMERAS, QUERIES)])
    centres = generator.standard_normal((count // PER_PERSON, len(between)), np.float32) @ between
    views = 0.4 * generator.standard_normal((CAMERAS, len(within)), np.float32) @ within
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (count, DIM))
    for start in range(0, total, _BLOCK):
        some = slice(start, min(start + _BLOCK, total))
        noise = generator.standard_normal((some.stop - start, len(within)), np.float32) @ within
        made = common + centres[person[some]] + views[camera[some]] + 0.84**0.5 * noise
        made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
        vectors[some] = made[: max(0, count - start)]
        if some.stop > count:
            np.save(folder / "queries.npy", made[max(0, count - start) :])
    vectors.flush()
    np.save(folder / "camera.npy", camera[:count].astype(np.int32))


def columns_of(folder: Path) -> FilterColumns:
    """What filters look at: rows in the order of cameras and time, thirty days of each, and a quality at random."""
    camera = np.load(folder / "camera.npy")
    generator = np.random.default_rng(1)
    seen = generator.integers(0, 30 * _DAY, len(camera))
    seen = seen[np.lexsort((seen, camera))]
    names = [f"cam{number:02d}" for number in range(CAMERAS)]
    quality = generator.random(len(camera)).astype(np.float32)
    ids = [f"{number:08d}" for number in range(len(camera))]
    return FilterColumns(ids, names, camera, seen, seen + 10_000_000, quality)


# Which part of the rows passes, in two kinds: as cameras and times do it, many in a row, and as a quality does it,
# scattered all over.
FILTERS = {
    "none": SearchFilters(),
    "50 %, quality": SearchFilters(min_quality=0.5),
    "10 %, two cameras": SearchFilters(cameras=frozenset({"cam03", "cam11"})),
    "10 %, quality": SearchFilters(min_quality=0.9),
    "1 %, a camera for six days": SearchFilters(cameras=frozenset({"cam03"}), since=9 * _DAY, until=15 * _DAY),
    "1 %, quality": SearchFilters(min_quality=0.99),
    "0.01 %, a camera for an hour and a half": SearchFilters(
        cameras=frozenset({"cam03"}), since=9 * _DAY, until=9 * _DAY + _DAY // 17
    ),
    "0.01 %, quality": SearchFilters(min_quality=0.9999),
}


def flat_fp16(vectors: NDArray[np.float16]) -> Any:
    """FAISS' flat index of fp16 vectors."""
    import faiss

    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.train(np.zeros((1, DIM), np.float32))
    for start in range(0, len(vectors), _BLOCK):
        index.add(vectors[start : start + _BLOCK].astype(np.float32))
    return index


def flat_fp16_search(
    index: Any, allowed: NDArray[np.bool_] | None
) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    import faiss

    faiss.omp_set_num_threads(1)  # there is one query, so other threads would only spin, beside ours, too
    if allowed is None:
        return lambda query: index.search(query[None], K)[1][0]
    bits = np.packbits(allowed, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)
    parameters = faiss.SearchParameters(sel=selector)
    return lambda query: (bits, index.search(query[None], K, params=parameters)[1][0])[1]


class Qdrant:
    """qdrant-client's local mode, in memory."""

    name = "qdrant-client, local mode"

    def __init__(self, vectors: NDArray[np.float16], folder: Path) -> None:
        from qdrant_client import QdrantClient, models

        self._models = models
        self._client = QdrantClient(":memory:")
        config = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
        self._client.create_collection("t", vectors_config=config)
        for start in range(0, len(vectors), 2000):
            some = vectors[start : start + 2000].astype(np.float32)
            ids = list(range(start, start + len(some)))
            payloads = [{"part": part} for part in _parts(ids)]
            self._client.upsert("t", points=models.Batch(ids=ids, vectors=some.tolist(), payloads=payloads))

    def search(self, query: NDArray[np.float32], part: str | None) -> list[int]:
        models = self._models
        wanted = [] if part is None else [models.FieldCondition(key="part", match=models.MatchValue(value=part))]
        found = self._client.query_points(
            "t", query=query, query_filter=models.Filter(must=wanted), limit=K, with_payload=False
        )
        return [int(point.id) for point in found.points]


class Milvus:
    """milvus-lite with one kind of index."""

    def __init__(self, kind: str, vectors: NDArray[np.float16], folder: Path) -> None:
        from pymilvus import DataType, MilvusClient

        self.name = f"milvus-lite, {kind}"
        self._client = client = MilvusClient(str(folder / f"{kind}.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=DIM)
        schema.add_field("part", DataType.VARCHAR, max_length=8)
        client.create_collection("t", schema=schema)
        for start in range(0, len(vectors), 2000):
            some = vectors[start : start + 2000].astype(np.float32)
            ids = list(range(start, start + len(some)))
            rows = [
                {"id": i, "v": vector, "part": part} for i, vector, part in zip(ids, some, _parts(ids), strict=True)
            ]
            client.insert("t", rows)
        client.flush("t")
        index = client.prepare_index_params()
        index.add_index("v", index_type=kind, metric_type="COSINE")
        client.create_index("t", index)
        client.load_collection("t")

    def search(self, query: NDArray[np.float32], part: str | None) -> list[int]:
        wanted = "" if part is None else f'part == "{part}"'
        return [hit["id"] for hit in self._client.search("t", [query], anns_field="v", filter=wanted, limit=K)[0]]


def _parts(rows: list[int] | NDArray[np.int64]) -> list[str]:
    """Each row is in the tenth, in the hundredth or in the rest, at random but always the same."""
    draw = np.random.default_rng(2).random(1_000_000)[np.asarray(rows)]
    return ["tenth" if one < 0.1 else "percent" if one < 0.11 else "rest" for one in draw]


def truth(vectors: NDArray[np.float16], queries: NDArray[np.float32], allowed: NDArray[np.bool_] | None) -> list[Any]:
    """By brute force: for each query the lowest score among its K best."""
    best = np.full((len(queries), 0), 0, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        scores = queries @ vectors[start : start + _BLOCK].astype(np.float32).T
        if allowed is not None:
            scores = scores[:, allowed[start : start + _BLOCK]]
        best = -np.sort(-np.hstack([best, scores]), axis=1)[:, :K]
    return [row[-1] if len(row) else np.inf for row in best]


def recall(
    found: list[Any], vectors: NDArray[np.float16], queries: NDArray[np.float32], lowest: list[Any], passing: int
) -> float:
    """Which share of the K best was found; rows as good as the last of them count."""
    right = 0
    for rows, query, least in zip(found, queries, lowest, strict=True):
        rows = np.asarray([row for row in rows if row >= 0], np.int64)
        right += int((vectors[rows].astype(np.float64) @ query >= least - 3 * SCORE_STEP).sum())
    return right / (len(found) * min(K, passing))


def in_turn(
    searches: dict[str, Callable[[NDArray[np.float32]], Any]], queries: NDArray[np.float32]
) -> Iterator[tuple[str, list[Any], dict[str, float]]]:
    """Ask everybody every query, one after the other; each gets one for practice first."""
    wall: dict[str, list[float]] = {name: [] for name in searches}
    cpu: dict[str, list[float]] = {name: [] for name in searches}
    found: dict[str, list[Any]] = {name: [] for name in searches}
    with _first_on_the_machine():
        for search in searches.values():
            search(queries[0])
        for query in queries:
            for name, search in searches.items():
                began, computed = time.perf_counter(), time.process_time()
                found[name].append(search(query))
                wall[name].append(1e3 * (time.perf_counter() - began))
                cpu[name].append(1e3 * (time.process_time() - computed))
    for name in searches:
        p50, p99 = np.percentile(wall[name], [50, 99])
        times = {"p50_ms": p50, "p99_ms": p99, "cpu_ms": float(np.median(cpu[name]))}
        yield name, found[name], {key: round(float(value), 3) for key, value in times.items()}


@contextmanager
def _first_on_the_machine() -> Iterator[None]:
    """Real-time priority, if it was asked for; threads that start meanwhile have it, too."""
    if not os.environ.get(_REAL_TIME):
        yield
        return
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def against_faiss(folder: Path) -> Iterator[dict[str, Any]]:
    """Ours and FAISS' flat fp16 in one process, at full size, with every filter."""
    vectors, queries, columns = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy"), columns_of(folder)
    ours, rival = TrackletIndex(vectors), flat_fp16(vectors)
    for kind, filters in FILTERS.items():
        allowed = columns.allowed(filters, None)
        passing = len(vectors) if allowed is None else int(allowed.sum())
        lowest = truth(vectors, queries, allowed)
        searches = {
            "ours": lambda query, filters=filters: ours.search(query, K, columns.allowed(filters, None))[0],
            "FAISS flat fp16": flat_fp16_search(rival, allowed),
        }
        for name, found, times in in_turn(searches, queries):
            line = {"what": name, "n": len(vectors), "filter": kind, "passing": passing, **times}
            yield {**line, "recall": round(recall(found, vectors, queries, lowest, passing), 4)}


def against_database(make: Callable[[NDArray[np.float16], Path], Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Ours and an embedded vector database in one process."""
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")[:25]
    ours = TrackletIndex(vectors)
    began = time.perf_counter()
    rival = make(vectors, folder)
    seconds = time.perf_counter() - began
    parts = np.array(_parts(np.arange(len(vectors))))
    yield {"what": rival.name, "n": len(vectors), "build_s": round(seconds, 1)}
    for kind, part in (("none", None), ("10 %", "tenth"), ("1 %", "percent")):
        allowed = None if part is None else parts == part
        passing = len(vectors) if allowed is None else int(allowed.sum())
        lowest = truth(vectors, queries, allowed)
        searches = {
            "ours": lambda query, allowed=allowed: ours.search(query, K, allowed)[0],
            rival.name: lambda query, part=part: rival.search(query, part),
        }
        for name, found, times in in_turn(searches, queries):
            line = {"what": name, "n": len(vectors), "filter": kind, "passing": passing, **times}
            if name == "ours":
                line["against"] = rival.name
            yield {**line, "recall": round(recall(found, vectors, queries, lowest, passing), 4)}


def built(make: Callable[[NDArray[np.float16]], Any], name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Time and memory of an index, of a process that does nothing else."""
    queries = np.load(folder / "queries.npy")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use now
    before = _memory_mib()[0]
    began, computed = time.perf_counter(), time.process_time()
    index = make(np.load(folder / "vectors.npy"))
    seconds, cpu = time.perf_counter() - began, time.process_time() - computed
    index.search(queries[0] if isinstance(index, TrackletIndex) else queries[:1], K)
    now, peak = _memory_mib()
    line = {"what": name, "n": len(index) if isinstance(index, TrackletIndex) else index.ntotal}
    yield {
        **line,
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "mib": now - before,
        "peak": peak - before,
    }


def _memory_mib() -> tuple[int, int]:
    """Resident memory of this process, now and at its peak."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) // 1024, int(lines["VmHWM"].split()[0]) // 1024


MEASUREMENTS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    "built": lambda folder: built(TrackletIndex, "ours", folder),
    "built-faiss": lambda folder: built(flat_fp16, "FAISS flat fp16", folder),
    "faiss": against_faiss,
    "qdrant": lambda folder: against_database(Qdrant, folder),
    "milvus-flat": lambda folder: against_database(lambda *given: Milvus("FLAT", *given), folder),
    "milvus-auto": lambda folder: against_database(lambda *given: Milvus("AUTOINDEX", *given), folder),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="how many vectors")
    parser.add_argument(
        "--real-time", action="store_true", help="ask before all other work on the machine (as root): it is not idle"
    )
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, help="names of measurements, all by default")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        name, folder = asked.measure
        for line in MEASUREMENTS[name](Path(folder)):
            circumstances = {"load": round(os.getloadavg()[0], 1), "real_time": bool(os.environ.get(_REAL_TIME))}
            print(json.dumps({**line, **circumstances}), flush=True)
        return 0
    if asked.real_time:
        os.environ[_REAL_TIME] = "1"
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        people(asked.n, Path(folder))
        for name in asked.only or MEASUREMENTS:
            failed |= subprocess.run([sys.executable, __file__, "--measure", name, folder]).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
