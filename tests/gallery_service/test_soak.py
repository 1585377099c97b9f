"""The long tests of the gallery, run by `make soak`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from gallery_service.audit.trail import EntryFilter
from gallery_service.caller import LOCAL
from gallery_service.databases.gallery import gallery_database
from gallery_service.erasure.erase import erase, unfinished_orders
from gallery_service.indexing.build import build_gallery, compact_gallery
from gallery_service.storage.model_versions import model_versions
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import read_segment
from gallery_service.verification import verify_site
from ingest.erasure_selection import Selection
from ingest.shards import list_shards
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.bundle import ModelStore
from models.images import decode_image
from tests.conftest import REPOSITORY
from tests.gallery_service import synthetic
from tests.gallery_service.indexer import use_colours
from tests.gallery_service.keeper import ModelEmbedder, walks_of
from tests.soak import ROUNDS, SEED, record

pytestmark = pytest.mark.soak  # minutes to an hour


class Promises:
    """What the killed ones said."""

    def __init__(self) -> None:
        self.indexed: dict[str, list[str]] = {}
        self.erasing: set[str] = set()
        self.erased: set[str] = set()
        self.acknowledged: set[str] = set()
        self.recorded: set[str] = set()
        self.counts: Counter[str] = Counter()

    def hear(self, line: str) -> None:
        said = json.loads(line)
        self.counts[said["what"]] += 1
        if said["what"] == "indexed":
            self.indexed[said["recording"]] = said["ids"]
        elif said["what"] in ("erasing", "erased"):
            getattr(self, said["what"]).add(said["id"])
            if said["what"] == "erased":
                self.acknowledged.add(said["id"])
        elif said["what"] == "recorded":
            self.recorded.add(said["turn"])


def kept(site: SiteConfig, promises: Promises) -> None:
    """Right after a kill, whatever was under way."""
    workspace = Workspace(site)
    repository = GalleryRepository(gallery_database(workspace).open())
    try:
        found = {tracklet_id for _, tracklet_id, _ in repository.crop_counts()}
        promised = {name for ids in promises.indexed.values() for name in ids}
        assert promised - promises.erasing <= found, "an acknowledged write is gone"
        assert not promises.erased & found, "an erased one is back"
        verdict = repository.audit.verify()
        assert verdict.problem is None
        entries = repository.audit.newest(EntryFilter(action="test"), None, 10**6)
        turns = {json.loads(entry.details)["turn"] for entry, _ in entries}
        assert promises.recorded <= turns, "an acknowledged entry of the audit log is gone"
        versions = model_versions(ModelStore(workspace.models), repository)
        assert versions.serving is not None
        # Whatever serves has a vector of everything that it says it has embedded.
        segments = [read_segment(workspace.gallery, one.name) for one in repository.segments(versions.serving)]
        stored = {row for segment in segments for row in segment.rows()}
        embedded = repository.embedded(versions.serving)
        assert {(shard, name) for shard, name, _ in repository.crop_counts() if shard in embedded} <= stored
    finally:
        repository.close()


def settled(site: SiteConfig, promises: Promises) -> int:
    """After the next index run and compaction: exactly what is there, nothing else; how many tracklets that is."""
    workspace = Workspace(site)
    if unfinished_orders(workspace):
        for proof in erase(site, Selection(), asked={}, caller=LOCAL).proofs:
            assert proof.clean, [place for place in proof.searched if place.found]
            promises.erased |= {tracklet.tracklet_id for tracklet in proof.tracklets}
    report = build_gallery(site, quiet=True)
    assert (report.failures, report.problems) == ([], [])
    compact_gallery(site)
    assert verify_site(site).damaged == []
    there = defaultdict(list)
    for shard in list_shards(workspace):
        crops = shard.crops().to_pylist()
        for crop in crops:
            jpeg = shard.read_jpeg(crop["offset"], crop["length"])
            there[f"{shard.camera_id}/{shard.shard_id}", crop["tracklet_id"]].append(jpeg)
    assert not promises.erased & {tracklet_id for _, tracklet_id in there}
    repository = GalleryRepository(gallery_database(workspace).open())
    assert {(shard, tracklet_id) for shard, tracklet_id, _ in repository.crop_counts()} == there.keys()
    repository.close()
    live = (workspace.models / "current").read_text().strip()
    assert report.serving_version == live
    draw = random.Random(len(there))
    sample = set(draw.sample(sorted(there), min(20, len(there))))
    files = [path.relative_to(workspace.gallery).with_suffix("") for path in workspace.gallery.rglob("*.safetensors")]
    seen = defaultdict(set)
    for name in map(str, files):
        segment = read_segment(workspace.gallery, name)
        embedder = ModelEmbedder(ModelStore(workspace.models).load(segment.model_version))
        for number, row in enumerate(segment.rows()):
            assert row not in seen[segment.model_version]
            seen[segment.model_version].add(row)
            if row in sample:
                crops = [decode_image(jpeg, what="crop") for jpeg in there[row]]
                mine = segment.crops[segment.crop_tracklet == number]
                assert np.array_equal(mine, embedder.embed(crops).astype(np.float16)), "another model's vectors"
    assert live in seen or not there
    assert all(rows == there.keys() for rows in seen.values()), "a vector is missing, or one of somebody erased is left"
    return len(there)


@pytest.mark.timeout(7200)
def test_random_kills_lose_nothing_and_bring_nobody_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kill -9` of one that indexes, swaps models and compacts, and of one that erases, both at work on one site."""
    monkeypatch.delitem(sys.modules, "models.embedder", raising=False)
    monkeypatch.setitem(sys.modules, "models.embedder", None)
    use_colours(ModelEmbedder)
    site = synthetic.write_site(tmp_path / "toy", clips=False)
    for seed in (1, 2):
        synthetic.add_model(site, seed=seed)
    synthetic.add_shard(Workspace(site), 1, walks_of("first"), sha256=synthetic.pseudo_sha256("first"))
    build_gallery(site, quiet=True)
    rounds, draw, promises, left = ROUNDS or 200, random.Random(SEED), Promises(), 0
    for number in range(rounds):
        outputs = [tmp_path / f"said by {name}" for name in ("writer", "eraser")]
        workers = []
        for name, output in zip(("writer", "eraser"), outputs, strict=True):
            command = [sys.executable, "-m", "tests.gallery_service.keeper", site.folder, f"{SEED} {number}", name]
            with output.open("w") as file:
                errors = (tmp_path / f"{name}.err").open("w")
                workers.append(subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, stdout=file, stderr=errors))
                errors.close()
        while not all(output.read_text() for output in outputs):
            assert all(worker.poll() is None for worker in workers), (tmp_path / "writer.err").read_text()
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 15.0))
        for worker, name in zip(workers, ("writer", "eraser"), strict=True):
            assert worker.poll() is None, (tmp_path / f"{name}.err").read_text()
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        for output in outputs:
            for line in output.read_text().splitlines():
                promises.hear(line)
        kept(site, promises)
        if number % 5 == 4 or number == rounds - 1:
            left = settled(site, promises)
    assert promises.acknowledged, "no erasure came to its end: nothing was tested"
    assert promises.indexed
    done = {name: promises.counts[name] for name in ("indexed", "erased", "serving", "recorded")}
    finished_later = len(promises.erased) - len(promises.acknowledged)
    record("random kills of the gallery", kills=2 * rounds, tracklets_left=left, **done, finished_later=finished_later)


@pytest.mark.timeout(7200)
def test_flipped_bits_are_found_or_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every file of a workspace that something depends on; in the databases unused bytes change nothing."""
    from tests.gallery_service.lived_in import live_in
    from tests.gallery_service.test_verification import as_it_was, checked_files, databases, flip, rows

    monkeypatch.delitem(sys.modules, "models.embedder", raising=False)
    monkeypatch.setitem(sys.modules, "models.embedder", None)
    use_colours()
    site = synthetic.build_site(tmp_path / "toy", clips=False)
    build_gallery(site, quiet=True)
    monkeypatch.setenv("CALR_SITES", str(tmp_path))
    live_in(site)
    said = {path: rows(path) for path in databases(site).values()}
    draw, found, harmless = random.Random(SEED), 0, 0
    for number in range(ROUNDS or 2000):
        path = draw.choice(sorted(said) if number % 2 else checked_files(site))
        # A damaged segment is taken out of the gallery's rows.
        with as_it_was(databases(site)["gallery"]), as_it_was(path):
            bit = flip(path, draw, in_use=path in said and number % 3 > 0)
            named = {damage.path for damage in verify_site(site).damaged}
            if path in said and not named:
                assert rows(path) == said[path], f"bit {bit}"
                harmless += 1
            else:
                assert named == {path.parent if path.parent.parent.name == "models" else path}, f"bit {bit} of {path}"
                found += 1
    record("flipped bits", rounds=found + harmless, found_and_named=found, unused_bytes_of_the_databases=harmless)
