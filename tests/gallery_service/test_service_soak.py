"""The service with a whole benchmark in it, and with eight clients at once; run by `make soak`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from gallery_service.client import GalleryClient, GalleryProblem
from gallery_service.search.site_search import MAX_TOP_K
from gallery_service.settings import ServiceSettings
from ingest.site import SiteConfig
from models.bundle import load_bundle
from models.embedder import Embedder
from models.images import decode_image, encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import run_service
from tests.soak import ROUNDS, SEED, record

pytestmark = pytest.mark.soak  # minutes each

QUERIES = 500
CLIENTS = 8


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def average_precision(ranked: NDArray[np.bool_], positives: int) -> float:
    """Of the part of a ranking that was looked at; positives behind it count as never found."""
    ranks = np.flatnonzero(ranked)
    return float(np.sum(np.arange(1, len(ranks) + 1) / (ranks + 1)) / positives)


@pytest.mark.shared_data
@pytest.mark.timeout(7200)
def test_market1501_through_the_service(shared_data: Path, tmp_path: Path) -> None:
    """Bundle, gallery, 500 fixed queries over HTTP: the mAP of the same vectors judged without any service."""
    with tarfile.open(shared_data / "market1501.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    root = next(tmp_path.glob("Market-1501*"))
    site = tmp_path / "market"
    site.mkdir()
    cameras = [{"id": f"c{number}", "videos": []} for number in range(1, 7)]
    content = {"schema": 1, "name": "market", "timezone": "UTC", "cameras": cameras}
    (site / "site.yaml").write_text(yaml.safe_dump(content))
    weights = shared_data / "weights" / "osnet_x0_25_msmt17.safetensors"
    run("ingest", "import", str(site), str(root / "bounding_box_test"), "--layout", "market1501-names")
    bundle_dir = tmp_path / "bundle"
    run("models", "export", "--arch", "osnet_x0_25", "--weights", str(weights), "--out", str(bundle_dir))
    bundle = load_bundle(bundle_dir)
    (site / "models").mkdir()
    bundle_dir.rename(site / "models" / bundle.version)
    run("models", "promote", str(site / "models"), bundle.version)
    run("gallery_service", "index", str(site))

    summaries = [json.loads(path.read_text()) for path in site.glob("shards/*/*/summary.json")]
    person = {
        tracklet: who["person_id"] for one in summaries for tracklet, who in one["ground_truth"]["tracklets"].items()
    }
    files = sorted((root / "query").glob("*.jpg"))
    chosen = sorted(np.random.default_rng(SEED).choice(len(files), QUERIES, replace=False).tolist())
    queries = [files[number] for number in chosen]
    identity = [int(path.name.split("_")[0]) for path in queries]
    camera = [path.name.split("_")[1][:2] for path in queries]
    positives = [
        sum(
            who == identity[number] and not tracklet.startswith(f"{camera[number]}/")
            for tracklet, who in person.items()
        )
        for number in range(QUERIES)
    ]

    def judge(number: int, tracklets: list[str]) -> float:
        valid = [t for t in tracklets if person[t] != identity[number] or not t.startswith(f"{camera[number]}/")]
        return average_precision(np.array([person[t] == identity[number] for t in valid]), positives[number])

    served, seconds = [], []
    limits = {"CALR_SERVICE_REQUESTS_PER_MINUTE": "1000000"}
    with run_service(site, env=limits) as service, GalleryClient(service.url) as gallery:
        assert gallery.site("market").tracklets == len(person) == 15_913
        for number, path in enumerate(queries):
            began = time.perf_counter()
            matches = gallery.search("market", [path.read_bytes()], top_k=MAX_TOP_K).matches
            seconds.append(time.perf_counter() - began)
            served.append(judge(number, [match.tracklet_id for match in matches]))

    embedder = Embedder(load_bundle(site / "models" / bundle.version))
    by_name = {path.stem: path for path in (root / "bounding_box_test").glob("*.jpg") if not path.name.startswith("-1")}
    # Tracklets are numbered in the order of the files of a camera.
    order = {
        name: sorted(stem for stem in by_name if stem.split("_")[1].startswith(name))
        for name in ("c1", "c2", "c3", "c4", "c5", "c6")
    }
    tracklets = sorted(person)
    held: dict[str, list[str]] = {}
    for tracklet in tracklets:
        held.setdefault(tracklet.split("/")[0], []).append(tracklet)
    stems = {}
    for name, names in held.items():
        for tracklet, stem in zip(sorted(names, key=lambda t: int(t.rsplit("/", 1)[1])), order[name], strict=True):
            assert int(stem.split("_")[0]) == max(person[tracklet], 0)
            stems[tracklet] = stem

    def embed(paths: list[Path]) -> NDArray[np.float32]:
        parts = [
            embedder.embed([decode_image(path.read_bytes(), what=path.name) for path in paths[start : start + 256]])
            for start in range(0, len(paths), 256)
        ]
        return np.concatenate(parts)

    vectors = embed([by_name[stems[tracklet]] for tracklet in tracklets])
    cosines = embed(queries) @ vectors.T
    offline = [
        judge(number, [tracklets[row] for row in np.argsort(-cosines[number], kind="stable")[:MAX_TOP_K]])
        for number in range(QUERIES)
    ]
    assert abs(np.mean(served) - np.mean(offline)) < 1e-3
    record(
        "Market-1501 through the service", queries=QUERIES, top_k=MAX_TOP_K,
        mAP=round(float(np.mean(served)), 5), offline_mAP=round(float(np.mean(offline)), 5),
        p50_ms=round(1000 * float(np.median(seconds))),
    )  # fmt: skip


@pytest.mark.timeout(7200)
def test_eight_clients_while_recordings_and_a_model_come(indexed_site: SiteConfig) -> None:
    """Ten minutes of searches, crops and clips, while recordings are indexed and another model takes over: every answer
    is one, and of one model."""
    minutes = ROUNDS or 10
    end = time.monotonic() + 60 * minutes
    wrong: list[str] = []
    seconds: list[float] = []
    versions: set[str] = set()

    def search(number: int, url: str) -> None:
        draw = np.random.default_rng([SEED, number])
        with GalleryClient(url) as gallery:
            while time.monotonic() < end:
                try:
                    picture = encode_jpeg(synthetic.query_crop(int(draw.integers(5))))
                    began = time.perf_counter()
                    answer = gallery.search("toy", [picture], rerank=bool(draw.integers(2)))
                    seconds.append(time.perf_counter() - began)
                    versions.add(answer.model_version)
                    match = answer.matches[int(draw.integers(len(answer.matches)))]
                    gallery.download(match.crop_url)
                    gallery.search_tracklet("toy", match.tracklet_id)
                    if match.clip_url and number == 0:
                        gallery.download(match.clip_url)
                except GalleryProblem as problem:
                    if problem.status != 503 or problem.retry_after_s is None:  # told to come again is an answer, too
                        wrong.append(str(problem))
                except Exception as error:
                    wrong.append(repr(error))

    limits = {"CALR_SERVICE_REQUESTS_PER_MINUTE": "1000000"}
    for name in ("reload_wait_s", "reload_pause"):  # as everybody has them; see conftest.py
        limits[f"CALR_SERVICE_{name.upper()}"] = str(ServiceSettings.model_fields[name].default)
    with run_service(indexed_site.folder, env=limits) as service:
        clients = [threading.Thread(target=search, args=(number, service.url)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        runs = 0
        while time.monotonic() < end - 5:
            start = synthetic.START + timedelta(hours=1 + runs)
            walks = [synthetic.Walk(10 + runs, 1.0, 6.0)]
            synthetic.add_recording(indexed_site, 1 + runs % 2, walks, name=f"later-{runs}", start=start)
            if runs == 2:
                synthetic.add_model(indexed_site, seed=2)
            done = subprocess.run(
                [sys.executable, "-m", "gallery_service", "index", str(indexed_site.folder)],
                capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            runs += 1
        for client in clients:
            client.join()
    assert wrong == []
    assert runs > 3, "too short for another model to take over; give it more minutes"
    assert len(versions) == 2
    p50, p99 = np.percentile(seconds, [50, 99])
    record(
        "eight clients", minutes=minutes, searches=len(seconds), index_runs=runs, models=len(versions),
        p50_ms=round(1000 * float(p50)), p99_ms=round(1000 * float(p99)),
    )  # fmt: skip
