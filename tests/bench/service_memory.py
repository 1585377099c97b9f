"""Memory of a running service with a large gallery, and how long it takes to follow a change: one JSON object per line.

    .venv/bin/python tests/bench/service_memory.py [TRACKLETS]

A process of its own serves synthetic vectors (512 numbers, float16, in a segment for each camera and day). `mib` is
what it has of anonymous memory; what it has without any tracklet is taken away. Then a recording comes, and then
somebody is forgotten and the vectors are compacted: `cpu_seconds` is what the service computes until it has followed,
and the peak is that of the step.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gallery_service.database import open_database
from gallery_service.indexing.compaction import compact, store_segment
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import day_of, make_segment
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from tests.gallery_service import synthetic

DIM, CAMERAS, PER_SHARD = 512, 20, 1000
_DAY_US = 86_400_000_000


def put_shard(gallery: Path, repository: GalleryRepository, version: str, number: int) -> tuple[str, str]:
    """A shard of a camera's day; one of its rows."""
    camera, day = f"cam{number % CAMERAS:02d}", number // CAMERAS
    shard = f"{camera}/{number:06d}"
    generator = np.random.default_rng(number)
    vectors = generator.standard_normal((PER_SHARD, DIM), np.float32)
    vectors[:, 40:] *= 0.1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        {
            "tracklet_id": f"{shard}/{place:04d}", "start_pts_s": 0.0, "end_pts_s": 1.0, "crops": 1, "quality": 0.5,
            "first_seen": day * _DAY_US + place, "last_seen": day * _DAY_US + place + 1, "time_source": "start",
            "best_crop_offset": 0, "best_crop_length": 1,
        }
        for place in range(PER_SHARD)
    ]  # fmt: skip
    names = [(shard, str(row["tracklet_id"])) for row in rows]
    segment = make_segment(
        version, camera, day_of(day * _DAY_US), names, np.arange(PER_SHARD, dtype=np.int32),
        vectors.astype(np.float16), generator.integers(0, 256, (PER_SHARD, 32), dtype=np.uint8),
    )  # fmt: skip
    stored = {
        "shard": shard, "camera_id": camera, "recording_sha256": synthetic.pseudo_sha256(shard),
        "tracklets": PER_SHARD, "crops": PER_SHARD, "summary_sha256": "0" * 64,
    }  # fmt: skip
    repository.put_shard(version, stored, rows, [store_segment(gallery, segment)])
    return names[0]


@contextmanager
def served(site: SiteConfig) -> Iterator[tuple[int, str]]:
    """A service of the site: process and address."""
    command = [sys.executable, "-m", "gallery_service", "serve", str(site.folder), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"on (http://\S+) ", line) for line in process.stderr)))
        yield process.pid, found[1]
    finally:
        process.terminate()
        process.wait()


def mib(pid: int, what: str = "RssAnon") -> float:
    """A line of /proc/PID/status, in MiB."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def ask(url: str, tracklets: int) -> None:
    """Ask until a change was followed: right after a load that took long, the service does not look again."""
    while True:
        for path in ("/api/v1/sites/large", "/metrics"):
            with urllib.request.urlopen(url + path) as answer:
                found = answer.read().decode()
        if f'calr_gallery_tracklets{{site="large"}} {float(tracklets)}' in found:
            return
        time.sleep(1)


def main(tracklets: int) -> None:
    """Build, serve, change, measure."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CALR_SITES"] = folder
        # Else the service notices by itself, before it is asked.
        os.environ["CALR_SERVICE_LOOK_EVERY_S"] = "3600"
        site = synthetic.write_site(Path(folder) / "large", cameras=2, clips=False, name="large")
        workspace = Workspace(site)
        version = synthetic.add_model(site).version
        repository = GalleryRepository(open_database(workspace.gallery / "gallery.sqlite"))
        repository.complete(version, 1)
        with served(site) as (pid, url):
            ask(url, 0)
            empty = mib(pid)
        shards = tracklets // PER_SHARD
        rows = [put_shard(workspace.gallery, repository, version, number) for number in range(shards)]
        with served(site) as (pid, url):

            def report(step: str, expected: int) -> None:
                began = cpu_seconds(pid)
                ask(url, expected)
                now, highest = mib(pid) - empty, mib(pid, "VmHWM") - empty
                Path(f"/proc/{pid}/clear_refs").write_text("5")
                line = {"step": step, "tracklets": expected, "mib": round(now), "peak_mib": round(highest)}
                print(json.dumps({**line, "cpu_seconds": round(cpu_seconds(pid) - began, 2)}), flush=True)

            report("started", tracklets)
            put_shard(workspace.gallery, repository, version, shards)
            report("a recording came", tracklets + PER_SHARD)
            repository.tombstone([rows[0]])
            compact(workspace.gallery, repository)
            report("somebody was forgotten", tracklets + PER_SHARD - 1)
        repository.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
