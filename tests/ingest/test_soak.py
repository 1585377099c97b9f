"""The long tests of ingest, run by `make soak`."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from ingest.recording import ingest_recording
from ingest.shards import open_shard
from ingest.site import Detector
from ingest.worker_pool import Done, Failed, run_jobs
from models.atomic import publish_folder
from tests.ingest.conftest import BlueDetector, make_job, write_cameras
from tests.ingest.corpus import write_corpus
from tests.ingest.test_pipeline import content_of, run, start, write_site
from tests.soak import ROUNDS, SEED, mutated, record

pytestmark = pytest.mark.soak  # minutes to an hour each


@dataclass(frozen=True)
class Mutation:
    """A valid recording, the seed of what is done to it, and a folder to work in."""

    original: Path
    seed: str
    folder: Path


def ingest_mutated(mutation: Mutation, progress: Callable[[float], None]) -> str:
    """What became of it; anything but an answer raises."""
    folder = mutation.folder / mutation.seed
    folder.mkdir(parents=True)
    video = folder / mutation.original.name
    video.write_bytes(mutated(mutation.original.read_bytes(), random.Random(mutation.seed)))
    try:
        job = make_job(video, folder / ".tmp-shard")
        summary = ingest_recording(job, detector=BlueDetector())
        publish_folder(job.folder, folder / str(summary["shard_id"]))
        shard = open_shard(folder / str(summary["shard_id"]))
        assert all(shard.read_jpeg(row["offset"], row["length"]) for row in shard.crops().to_pylist())
        return "partly" if any(summary["decode"][key] for key in ("damaged", "truncated", "pts_estimated")) else "whole"
    finally:
        shutil.rmtree(folder)


@pytest.mark.timeout(7200)
def test_mutated_recordings_are_ingested_or_refused(tmp_path: Path) -> None:
    """No crash, no hang (a minute without news), no partial shard."""
    write_corpus(tmp_path / "corpus")
    originals = [
        path
        for path in sorted((tmp_path / "corpus").glob("*.*"))
        if path.suffix != ".yaml" and path.is_file() and path.stat().st_size
    ]
    rounds = ROUNDS or 2000
    jobs = [
        Mutation(originals[number % len(originals)], f"{SEED}-{number}", tmp_path / "work") for number in range(rounds)
    ]
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    slowest, last = 0.0, time.monotonic()
    for event in run_jobs(ingest_mutated, jobs, workers=1, threads=1, imports=("ingest.byte_track",)):
        slowest, last = max(slowest, time.monotonic() - last), time.monotonic()
        if isinstance(event, Done):
            outcomes[event.result] += 1
        elif isinstance(event, Failed) and event.kind in ("VideoError", "StillWritten"):
            outcomes["refused"] += 1
        elif isinstance(event, Failed):
            wrong.append(f"{jobs[event.job].original.name} mutated by {jobs[event.job].seed}: {event.error}")
    assert wrong == []
    assert slowest < 60
    record("mutated recordings", rounds=rounds, files=len(originals), **outcomes)


@pytest.mark.timeout(7200)
def test_random_kills_leave_the_same_shards(tmp_path: Path) -> None:
    """`kill -9` of everything that works for the command, then the same command again, many times over."""
    cameras = write_cameras(tmp_path / "recordings", 4, 6.0)
    site, undisturbed = tmp_path / "site", tmp_path / "undisturbed"
    write_site(undisturbed, cameras)
    began = time.monotonic()
    process = start(undisturbed)
    process.communicate()
    took = time.monotonic() - began
    assert process.returncode == 0
    expected = content_of(undisturbed)
    draw = random.Random(SEED)
    rounds, landed, finished = ROUNDS or 50, 0, 0
    write_site(site, cameras)
    while landed < rounds:
        process = start(site)
        end = time.monotonic() + draw.uniform(0.0, 1.2 * took)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            landed += 1
        process.communicate()
        if process.returncode == 0:
            finished += 1
            assert content_of(site) == expected
            shutil.rmtree(site / "shards")
    assert run(site)[0] == 0
    assert content_of(site) == expected
    assert finished, "kills came before anything was published: nothing was tested"
    record("random kills of ingest", kills=landed, finished_between=finished, files=len(expected))


def looped(source: Path, target: Path, hours: float) -> Path:
    """The recording over and over again; nothing is encoded anew."""
    import av

    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        packets = [packet for packet in reading.demux(stream) if packet.dts is not None]
        step = Fraction(1, 1) / (stream.average_rate or 20) / stream.time_base
        length = round(len(packets) * step)
        for turn in range(round(hours * 3600 / float(length * stream.time_base))):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.stream, again.time_base, again.is_keyframe = copy, stream.time_base, packet.is_keyframe
                again.pts, again.dts = packet.pts + turn * length, packet.dts + turn * length
                writing.mux(again)
    return target


def peak_memory(video: Path, progress: Callable[[float], None]) -> tuple[float, dict[str, int]]:
    """MiB of this process at most, while it ingests the recording with the motion detector, and the counts."""
    # Every frame is decoded however few are looked at; at 2 a second six hours take a quarter of an hour, not one.
    job = make_job(video, video.with_suffix(".shard"), detector=Detector.model_validate({"fps": 2.0}))
    summary = ingest_recording(job)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, summary["counts"]


@pytest.mark.shared_data
@pytest.mark.timeout(7200)
def test_memory_stays_flat_over_six_hours(shared_data: Path, tmp_path: Path) -> None:
    """A real plaza with the motion detector: six hours need at most a tenth more than six minutes."""
    peaks = {}
    for hours in (0.1, 6.0):
        video = looped(shared_data / "footage" / "plaza" / "cam1.mp4", tmp_path / f"{hours}h.mp4", hours)
        events = list(run_jobs(peak_memory, [video], workers=1, threads=1, imports=("ingest.byte_track",)))
        (end,) = [event for event in events if isinstance(event, Done | Failed)]
        assert isinstance(end, Done), end
        peaks[hours] = end.result
    record(
        "six hours of recording",
        peak_mib_6_minutes=round(peaks[0.1][0]),
        peak_mib_6_hours=round(peaks[6.0][0]),
        tracklets=peaks[6.0][1]["tracklets"],
        frames=peaks[6.0][1]["frames"],
    )
    assert peaks[6.0][0] <= 1.1 * peaks[0.1][0]
