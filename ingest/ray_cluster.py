"""Recordings spread over the machines of a Ray cluster.

The unit of work is the one of the local worker pool: a recording, known by its content. A machine needs this package
in the same version, the detector's weights, and a way to the recordings: a share mounted at the same place, or an S3
store. It needs no way to the site's workspace: finished shards travel through Ray, and only the process that asked for
them publishes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.detection import make_detector
from ingest.disk_full import disk_full_said
from ingest.recording import RecordingJob, ingest_recording
from ingest.worker_pool import Done, Failed, attempt

_SCRATCH = "calr-ingest-"


class ClusterError(ValueError):
    """There is no cluster to work on, or a machine of it is not set up for this."""


def run_on_ray(
    jobs: Sequence[RecordingJob], *, at_once: int | None = None, tries: int = 1
) -> Generator[Done[None] | Failed]:
    """Ingest recordings on the Ray cluster at $RAY_ADDRESS, or on the one that this machine belongs to.

    Args:
        jobs: to do; each one's folder is filled here when it is done.
        at_once: recordings in work at the same time; None: one per CPU of the cluster.
        tries: how often a recording is begun anew when the process or the machine working on it dies.

    Yields:
        Exactly one `Done` or `Failed` per job. Closing the iterator ends all work on the cluster.

    Raises:
        ClusterError: there is no such cluster, or it ends.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import LocalRayletDiedError, RayError
    except ImportError:
        raise ClusterError("'--executor ray' needs the package ray; see 'Many machines' in the README") from None
    try:
        ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError:
        raise ClusterError(
            "no Ray cluster found; start one by 'ray start --head', join it on other machines by "
            "'ray start --address=HEAD:6379', and set RAY_ADDRESS where this machine is not part of it"
        ) from None
    task = ray.remote(num_cpus=1, max_retries=tries - 1)(_shard_of)
    waiting = iter(enumerate(jobs))
    running: dict[Any, int] = {}
    try:
        while True:
            free = (at_once or _cpus(ray)) - len(running)
            for number, job in islice(waiting, max(free, 0)):
                running[task.remote(job, job.shard_id)] = number
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ready[0])
            try:
                kind, content = ray.get(ready[0])
            except LocalRayletDiedError:
                # For which no recording can be blamed.
                raise ClusterError(
                    "the Ray cluster ended in the middle; start it again and run the same command to go on"
                ) from None
            except RayError as error:
                first = str(error).strip().partition("\n")[0]
                yield Failed(number, f"whoever worked on it died: {first}", "killed", tries)
                continue
            if kind == "failed":
                yield Failed(number, content[1], content[0])
                continue
            _write(jobs[number].folder, content)
            yield Done(number, None)
    finally:
        for reference in running:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)
        ray.shutdown()


def _cpus(ray: Any) -> int:
    """Of the whole cluster, as it is now: machines come and go."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _shard_of(job: RecordingJob, shard_id: str) -> Any:
    """The files of a recording's shard, by name; runs on a machine of the cluster."""
    kind, content = attempt(_ingest, job, shard_id)
    if kind == "failed":
        return kind, (content[0], f"{content[1]} (on {platform.node()})")
    return kind, content


def _ingest(job: RecordingJob, shard_id: str) -> dict[str, bytes]:
    import cv2

    if job.shard_id != shard_id:
        raise ClusterError("another version of this package is installed there; install the same one everywhere")
    detector = make_detector(job.detector, job.site_folder)
    if detector.fingerprint() != job.detector_fingerprint:
        raise ClusterError("the detector's weights there are others; put the same file on every machine")
    cv2.setNumThreads(1)
    with _scratch() as scratch:
        folder = scratch / "shard"
        ingest_recording(replace(job, folder=folder), detector=detector, threads=1)
        return {file.name: file.read_bytes() for file in folder.iterdir()}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the time of one recording. What a killed task left behind, crops of people among it, goes first: a
    folder belongs to a task that is alive as long as it is locked."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as made, _locked(Path(made)):
        yield Path(made)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    with disk_full_said(folder.parent):
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
