"""All recordings of a site: what is new is ingested, what is there already is left alone.

Only this process, which holds the workspace's lock, publishes shards. Workers fill temporary folders; one that is
killed leaves such a folder behind, and the next run removes it. So a run may be stopped at any moment, and the same
command again ends with the same shards.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from ingest.carried_erasures import lines_to_carry, states_of
from ingest.content_hash import ContentHashes
from ingest.detection import DetectorError, make_detector
from ingest.disk_full import DiskFull, disk_full_said
from ingest.erasure_selection import expired
from ingest.erasures import Erasure, add_erasures, load_erasures
from ingest.forgetting import forget_in
from ingest.growing import grown_from, still_written
from ingest.nvdec import DecoderError
from ingest.ray_cluster import ClusterError, run_on_ray
from ingest.recording import RecordingJob, ground_truth_hash, ingest_recording
from ingest.recording_file import RecordingPath, StoreError, file_stamp, is_file
from ingest.set_aside import TRIES, Failure, SetAside
from ingest.shards import (
    TEMPORARY_PREFIX,
    Shard,
    left_out_shards,
    list_shards,
    newest_shards,
    remove_leftovers,
    remove_superseded,
)
from ingest.site import Camera, Recording, SiteConfig, SiteError, camera_videos
from ingest.video import StillWritten, VideoError, probe
from ingest.worker_pool import Done, Failed, Progress, run_jobs
from ingest.workspace import Workspace
from models.atomic import publish_folder

STAGE = "ingest"
SAVE_EVERY_S = 5.0
"""Hashes are saved so often while recordings are read, so that a killed run does not read them all again."""
TIDYING_SHARE = 0.05
"""Of a run, at most: what is done after a recording and takes longer the more shards there are."""


@dataclass(frozen=True)
class Refusal:
    """A recording that could not be ingested (or a camera without any), and why."""

    camera: str
    path: str
    error: str


@dataclass
class CameraCounts:
    """What a camera's shards hold.

    Attributes:
        videos, frames, tracklets, crops: counts.
        seconds: of recording.
        rejected: tracklets by reason.
        failures: recordings refused in this run.
    """

    videos: int = 0
    frames: int = 0
    seconds: float = 0.0
    tracklets: int = 0
    crops: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failures: int = 0


@dataclass
class IngestResult:
    """What a run did.

    Attributes:
        new: recordings ingested in this run.
        cameras: counts over all valid shards, by camera.
        refusals: what was refused in this run.
        waiting: recordings that are still being written and were left for the next run.
        remarks: recordings that were taken though something is wrong with them.
        forgotten: tracklets that had become older than site.yaml allows.
        seconds: this run took.
        status: content of status/ingest.json.
    """

    new: int
    cameras: dict[str, CameraCounts]
    refusals: list[Refusal]
    waiting: list[Refusal]
    remarks: list[Refusal]
    forgotten: int
    seconds: float
    status: dict[str, Any]


class ProgressView(Protocol):
    """Shows a person how far it is."""

    def begin(self, what: str, total: float) -> None:
        """A new piece of work of `total` units."""

    def advance_to(self, done: float) -> None:
        """`done` units of it are done."""


class _Silent:
    def begin(self, what: str, total: float) -> None:
        pass

    def advance_to(self, done: float) -> None:
        pass


Executor = Literal["processes", "ray"]


def ingest_site(
    site: SiteConfig,
    *,
    workers: int | None = None,
    executor: Executor = "processes",
    view: ProgressView | None = None,
) -> IngestResult:
    """Ingest what is new at a site.

    Args:
        site: to ingest.
        workers: recordings at a time; None: one per core.
        executor: processes of this machine, or a Ray cluster (`ingest.ray_cluster`).
        view: shows progress.

    Raises:
        WorkspaceBusy: another command writes into the workspace.
        SiteError, DecoderError, DetectorError, ErasureError, ShardError, DiskFull, ClusterError: nothing (more) can be
            ingested as things are.
        KeyboardInterrupt: passed on. Whatever ends a run early, its status says so.
    """
    workspace = Workspace(site)
    with disk_full_said(workspace.root), workspace.lock():
        run = _Run(site, workspace, view or _Silent())
        try:
            return run.run(workers, executor)
        except BaseException as error:
            remove_leftovers(workspace)
            with contextlib.suppress(OSError):  # on a full disk the status before stays
                run.write_status("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise


class _Run:
    def __init__(self, site: SiteConfig, workspace: Workspace, view: ProgressView) -> None:
        self.site, self.workspace, self.view = site, workspace, view
        self.began = time.monotonic()
        self.refusals: list[Refusal] = []
        self.waiting: list[Refusal] = []
        self.set_aside = SetAside(workspace)
        self.new = 0
        # `seconds` in the status is what the work took, not how long it took to see that there is none.
        self.working = False
        self.tidy_again = 0.0
        before = workspace.read_status(STAGE) or {}
        self.earlier_s = float(before.get("seconds") or 0.0)
        self.stopped_before = before.get("state") in ("running", "interrupted", "failed")

    def run(self, workers: int | None, executor: Executor) -> IngestResult:
        remove_leftovers(self.workspace)
        jobs = self._new_jobs()
        if jobs:
            self.working = True
            # A run that was stopped has done part of the work that this one finishes.
            self.earlier_s = self.earlier_s if self.stopped_before else 0.0
            self.write_status("running")
            self._work_through(jobs, workers, executor)
        forgotten = self._keep_retention()
        status = self.write_status("done")
        cameras = _count(self.site, list_shards(self.workspace), self.refusals)
        return IngestResult(
            self.new, cameras, self.refusals, self.waiting, self._remarks(), forgotten, self._seconds(), status
        )

    def _keep_retention(self) -> int:
        """Forget what has become too old, without anybody having to remember, and what a forgetting that was stopped
        has left of recordings that are gone; how many tracklets."""
        return len(forget_in(self.workspace, expired(self.site, datetime.now(UTC))).tracklets)

    def write_status(self, state: str) -> dict[str, Any]:
        shards = list_shards(self.workspace)
        cameras = _count(self.site, shards, self.refusals)
        seconds = self._seconds()
        status = {
            "state": state,
            "counts": {
                "videos": len(shards),
                "frames": sum(count.frames for count in cameras.values()),
                "tracklets": sum(count.tracklets for count in cameras.values()),
                "crops": sum(count.crops for count in cameras.values()),
                "cameras": sum(count.videos > 0 for count in cameras.values()),
            },
            "failures": [vars(refusal) for refusal in self.refusals],
            "waiting": [vars(waiting) for waiting in self.waiting],
            "remarks": [vars(remark) for remark in self._remarks()],
            "new": self.new,
            "seconds": round(self.earlier_s + seconds if self.working else self.earlier_s, 3),
            "last_run_seconds": round(seconds, 3),
        }
        self.workspace.write_status(STAGE, status)
        return {"schema": 1, **status}

    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def _remarks(self) -> list[Refusal]:
        remarks = []
        for shard in list_shards(self.workspace):
            decode = shard.summary["decode"]
            parts = ["it ends before its stated length"] if decode["truncated"] else []
            if decode["damaged"]:
                parts.append(f"damaged packets or frames that were skipped: {decode['damaged']}")
            if decode["pts_estimated"]:
                parts.append(f"frames without a usable timestamp, which got an estimate: {decode['pts_estimated']}")
            if decode.get("clock_restarts"):
                parts.append(
                    f"times its timestamps begin anew, the parts were put together: {decode['clock_restarts']}"
                )
            if shard.summary["time_source"] == "unknown" and shard.summary["counts"]["frames"]:
                parts.append("when it was recorded is unknown: see the camera's 'time' in site.yaml")
            if shard.summary.get("time_guessed"):
                parts.append(
                    "clocks were set back, and its name means one of two moments; the first is taken: write %z into "
                    "names, or give it a 'start'"
                )
            if parts:
                remarks.append(Refusal(shard.camera_id, str(shard.summary["video_name"]), "; ".join(parts)))
        for shard, reason in left_out_shards(self.workspace):
            remarks.append(Refusal(shard.camera_id, str(shard.summary["video_name"]), reason))
        return remarks

    def _refuse(self, camera: Camera, path: str, error: str) -> None:
        self.refusals.append(Refusal(camera.id, path, error))

    def _wait(self, camera: Camera, path: RecordingPath) -> None:
        self.waiting.append(Refusal(camera.id, str(path), "is still being written; the next run takes it"))

    def _new_jobs(self) -> list[RecordingJob]:
        erasures = load_erasures(self.workspace.erasures)
        detector = make_detector(self.site.detector, self.site.folder).fingerprint()
        # Those left out count, too: what replaces them must be of a later generation.
        existing = {(shard.camera_id, shard.video_sha256): shard for shard in newest_shards(self.workspace)}
        truth = {camera.id: ground_truth_hash(camera.ground_truth_path) for camera in self.site.cameras}
        jobs: dict[tuple[str, str], RecordingJob] = {}
        starts: dict[tuple[str, str], datetime | None] = {}
        seen: set[tuple[str, str]] = set()
        for camera, recording, sha256, stamp in self._hashed():
            if (camera.id, sha256) in seen:
                continue  # the same content under another name: the first one's
            seen.add((camera.id, sha256))
            job = RecordingJob(
                path=recording.path,
                stamp=stamp,
                video_sha256=sha256,
                camera=camera,
                timezone=self.site.timezone,
                detector=self.site.detector,
                site_folder=self.site.folder,
                start=recording.start,
                offset_s=recording.offset_s,
                erasures=tuple(_of(erasures, sha256)),
                ground_truth=camera.ground_truth_path,
                ground_truth_sha256=truth[camera.id],
                detector_fingerprint=detector,
            )
            shard = existing.get((camera.id, sha256))
            if shard is not None and shard.shard_id == job.shard_id:
                continue
            failure = self.set_aside.failure(camera.id, job.shard_id)
            if failure is not None and failure.tries >= TRIES:
                again = f"'python -m ingest retry {self.site.name}' tries again"
                self._refuse(
                    camera, str(recording.path), f"set aside after {failure.tries} tries: {failure.error}; {again}"
                )
                continue
            try:
                info = probe(recording.path)
            except (VideoError, StoreError) as error:
                self._refuse(camera, str(recording.path), str(error))
                continue
            jobs[camera.id, sha256] = replace(
                job,
                duration_s=info.duration_s,
                folder=self.workspace.shards / camera.id / f"{TEMPORARY_PREFIX}{job.shard_id}",
                generation=1 if shard is None else shard.generation + 1,
                replaces=() if shard is None else tuple(shard.replaces),
            )
            starts[camera.id, sha256] = job.known_start(info)
        gone = [shard for key, shard in existing.items() if key not in seen]
        # A copy of when a recording that is there, too, was shorter: all that it shows is in that one's shard.
        shorter = {(key[0], content) for key, shard in existing.items() if key in seen for content in shard.replaces}
        return [self._grown(job, starts[key], gone) for key, job in jobs.items() if key not in shorter]

    def _grown(self, job: RecordingJob, start: datetime | None, gone: list[Shard]) -> RecordingJob:
        """The job, told which shards it takes the place of; what was erased there stays erased."""
        gone = [shard for shard in gone if shard.camera_id == job.camera.id]
        # Where the recording was put back as it was when it was shorter, each replaces the other: the later one counts.
        longer = [shard for shard in gone if job.video_sha256 in shard.replaces]
        others = [*grown_from(job.path, start, gone), *longer]
        contents = {content for shard in others for content in states_of(shard)} | set(job.replaces)
        contents.discard(job.video_sha256)
        if not contents:
            return job
        generation = max([job.generation, *(shard.generation + 1 for shard in longer)])
        job = replace(job, replaces=tuple(sorted(contents)), generation=generation)
        self._carry(job)
        grown = replace(job, erasures=tuple(_of(load_erasures(self.workspace.erasures), job.video_sha256)))
        return replace(grown, folder=job.folder.with_name(f"{TEMPORARY_PREFIX}{grown.shard_id}"))

    def _carry(self, job: RecordingJob) -> None:
        """Write down for a recording what was erased in it while it was shorter."""
        states = {job.video_sha256, *job.replaces}
        add_erasures(self.workspace.erasures, lines_to_carry(states, load_erasures(self.workspace.erasures)))

    def _hashed(self) -> Iterator[tuple[Camera, Recording, str, tuple[int, int]]]:
        """Every recording with its content hash and stamp; what cannot be read is refused here."""
        recordings: list[tuple[Camera, Recording]] = []
        for camera in self.site.cameras:
            patterns = ", ".join(video.path for video in camera.videos)
            try:
                found = camera_videos(camera)
            except StoreError as error:
                self._refuse(camera, patterns, str(error))
                continue
            if camera.videos and not found:
                self._refuse(camera, patterns, f"camera '{camera.id}': no file matches {patterns}; correct 'videos'")
            if camera.ground_truth is not None and len(found) > 1:
                raise SiteError(
                    f"{self.site.file}: camera '{camera.id}' has ground truth and {len(found)} recordings; "
                    "frame numbers then say nothing, so give a camera with ground truth one recording"
                )
            recordings += [(camera, recording) for recording in found]
        hashes = ContentHashes(self.workspace)
        unfinished = still_written(
            recording.path for _, recording in recordings if hashes.known(recording.path) is None
        )
        for camera, recording in recordings:
            if recording.path in unfinished:
                self._wait(camera, recording.path)
        recordings = [(camera, recording) for camera, recording in recordings if recording.path not in unfinished]
        sizes: dict[RecordingPath, int] = {}
        for _, recording in recordings:
            with contextlib.suppress(OSError):  # told below, recording by recording
                if hashes.known(recording.path) is None:
                    sizes[recording.path] = file_stamp(recording.path)[0]
        read = 0
        saved = time.monotonic()

        def advance(count: int) -> None:
            nonlocal read
            read += count
            self.view.advance_to(read)

        if sizes:
            self.view.begin("reading new recordings", sum(sizes.values()))
        try:
            for camera, recording in recordings:
                try:
                    if not is_file(recording.path):
                        probe(recording.path)  # says what is wrong with it
                    stamp = file_stamp(recording.path)
                    sha256 = hashes.sha256(recording.path, advance)
                except StillWritten:
                    self._wait(camera, recording.path)
                    continue
                except (VideoError, OSError) as error:
                    self._refuse(camera, str(recording.path), str(error))
                    continue
                yield camera, recording, sha256, stamp
                if time.monotonic() > saved + SAVE_EVERY_S:
                    hashes.save()
                    saved = time.monotonic()
        finally:
            hashes.save()

    def _work_through(self, jobs: list[RecordingJob], workers: int | None, executor: Executor) -> None:
        # A recording of unknown length counts as a minute; the bar is then only roughly right.
        lengths = [job.duration_s or 60.0 for job in jobs]
        done = [0.0] * len(jobs)
        self.view.begin(f"ingesting {len(jobs)} recording{'s' if len(jobs) > 1 else ''}", sum(lengths))
        events: Generator[Progress | Done[Any] | Failed]
        if executor == "ray":
            events = run_on_ray(jobs, at_once=workers, tries=TRIES)
        else:
            cores = len(os.sched_getaffinity(0))
            workers = max(1, min(workers or cores, len(jobs)))
            threads = max(1, cores // workers)
            events = run_jobs(
                ingest_recording,
                jobs,
                workers=workers,
                threads=threads,
                tries=TRIES,
                imports=("ingest.byte_track",),
            )
        with contextlib.ExitStack() as ending:
            ending.callback(remove_superseded, self.workspace)
            ending.enter_context(contextlib.closing(events))  # whatever ends this loop also ends the workers
            for event in events:
                job = jobs[event.job]
                if isinstance(event, Progress):
                    done[event.job] = min(event.done, lengths[event.job])
                else:
                    done[event.job] = lengths[event.job]
                    if isinstance(event, Failed):
                        self._failed(job, event)
                    elif isinstance(event, Done):
                        self._publish(job)
                self.view.advance_to(sum(done))

    def _failed(self, job: RecordingJob, event: Failed) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        for same_with_every_recording in (DecoderError, DetectorError, DiskFull, ClusterError):
            if event.kind == same_with_every_recording.__name__:
                raise same_with_every_recording(event.error)
        if event.kind == StillWritten.__name__:
            self._wait(job.camera, job.path)
            return
        if event.kind != StoreError.__name__:  # for which the recording cannot be blamed
            self.set_aside.failed(job.shard_id, Failure(job.camera.id, str(job.path), event.error, event.tries))
        self._refuse(job.camera, str(job.path), event.error)

    def _publish(self, job: RecordingJob) -> None:
        final = job.folder.with_name(job.shard_id)
        if job.replaces:
            # Somebody may have been erased meanwhile, in the shorter state: not to be shown for a moment.
            self._carry(job)
        try:
            if final.exists():
                # An older generation with these very settings, superseded and not yet removed.
                shutil.rmtree(final)
            with disk_full_said(job.folder.parent):
                publish_folder(job.folder, final)
        except OSError as error:
            shutil.rmtree(job.folder, ignore_errors=True)
            self._refuse(job.camera, str(job.path), f"its shard cannot be written: {error}")
            return
        if job.replaces:
            self._carry(job)
        self.new += 1
        self.set_aside.forget(job.camera.id, job.shard_id)
        self._tidy()

    def _tidy(self) -> None:
        """Remove what was superseded and write how far the run is, both of which look through all shards there are."""
        began = time.monotonic()
        if began >= self.tidy_again:
            remove_superseded(self.workspace)
            self.write_status("running")
            self.tidy_again = began + (time.monotonic() - began) / TIDYING_SHARE


def _of(erasures: list[Erasure], video_sha256: str) -> list[Erasure]:
    return [erasure for erasure in erasures if erasure.video_sha256 == video_sha256]


def _count(site: SiteConfig, shards: list[Shard], refusals: list[Refusal]) -> dict[str, CameraCounts]:
    cameras = {camera.id: CameraCounts() for camera in site.cameras}
    for shard in shards:
        count = cameras.setdefault(shard.camera_id, CameraCounts())
        counts = shard.summary["counts"]
        count.videos += 1
        count.frames += counts["frames"]
        count.seconds += shard.summary["duration_s"]
        count.tracklets += counts["tracklets"]
        count.crops += counts["crops"]
        count.rejected.update(shard.summary["rejected"]["tracklets"])
    for refusal in refusals:
        cameras[refusal.camera].failures += 1
    return cameras
