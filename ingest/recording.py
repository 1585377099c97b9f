"""One recording, from its file to the folder of a shard."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ingest import site
from ingest.appearance import appearance
from ingest.crop_quality import view
from ingest.detection import Detections, Detector, make_detector
from ingest.disk_full import disk_full_said
from ingest.erasures import ErasedRegions, Erasure
from ingest.false_persons import Suspects, never_moved
from ingest.ground_truth import Judge, load_ground_truth
from ingest.mask import black_out, stands_in
from ingest.nvdec import decoding_device
from ingest.recording_file import RecordingPath, file_stamp
from ingest.recording_time import RecordingStart, resolve_start
from ingest.shard_writer import ShardWriter
from ingest.shards import shard_id
from ingest.tracking import LOST_AFTER_S, MATCH_COST, Tracker
from ingest.tracklet_linking import MEND_WITHIN_S, Linked, TrackletLinker
from ingest.tracklets import BINS, ENOUGH_CROPS, PATH_POINTS, OpenTracklet, Sighting, Tracklet
from ingest.video import Frame, FrameSampler, StillWritten, VideoError, VideoInfo, VideoReader
from models.atomic import sha256_file
from models.images import encode_jpeg

# Part of every fingerprint: raise it when a change to the code makes other crops out of the same recording.
METHOD = 5
DEFAULT_MIN_SCORE = 0.25
MAX_CROPS = 8
JPEG_QUALITY = 95
# Decoded frames that wait for the detector, and their detections for the tracker.
FRAMES_AHEAD = 2
# A crop smaller than this on either side shows nobody.
MIN_CROP_PX = 4


@dataclass(frozen=True)
class RecordingJob:
    """Everything needed to ingest one recording, ready to be sent to another process.

    Attributes:
        path: of the video.
        stamp: its `file_stamp` when it was hashed.
        video_sha256: its content hash.
        camera: it belongs to.
        timezone: of the site, for times in file names.
        detector: the site's.
        site_folder: what a relative weights path starts from.
        start, offset_s: of the `Recording`.
        erasures: of this recording.
        ground_truth: CSV, or None.
        ground_truth_sha256: its content hash, or None.
        duration_s: as stated by the container, or None.
        folder: to write into; what lies there is removed.
        generation: of the shard.
        replaces: content hashes of earlier, shorter states of the recording, whose shards this one takes the place of.
    """

    path: RecordingPath
    stamp: tuple[int, int]
    video_sha256: str
    camera: site.Camera
    timezone: str
    detector: site.Detector
    site_folder: Path
    start: datetime | None
    offset_s: float
    erasures: tuple[Erasure, ...]
    ground_truth: Path | None
    ground_truth_sha256: str | None
    detector_fingerprint: str
    duration_s: float | None = None
    folder: Path = Path()
    generation: int = 1
    replaces: tuple[str, ...] = ()

    @property
    def min_score(self) -> float:
        """Detections from here up start tracklets and become crops."""
        return DEFAULT_MIN_SCORE if self.detector.min_score is None else self.detector.min_score

    @property
    def video_id(self) -> str:
        """The recording in tracklet ids."""
        return self.video_sha256[:16]

    @property
    def shard_id(self) -> str:
        """Content and settings: the same id, the same crops."""
        return shard_id(self.video_id, self.settings())

    def settings(self) -> dict[str, Any]:
        """Everything besides the recording's content that changes what is in its shard."""
        time = self.camera.time
        stated: str | None = None if self.start is None else self.start.astimezone(UTC).isoformat()
        if self.start is None and time.source == "filename":
            # The moment, not the name: renaming without another meaning changes nothing.
            stated = str(self._start(None, 0.0).utc)
        return {
            "method": METHOD,
            "detector": self.detector_fingerprint,
            "fps": self.detector.fps,
            "min_score": self.min_score,
            "min_height_px": self.detector.min_height_px,
            "tracking": [LOST_AFTER_S, MATCH_COST],
            "crops": [MAX_CROPS, ENOUGH_CROPS, JPEG_QUALITY, BINS, PATH_POINTS],
            "mask": [[list(point) for point in polygon] for polygon in self.camera.mask],
            "ignore": [[list(point) for point in polygon] for polygon in self.camera.ignore],
            "time": ["start" if self.start is not None else time.source, stated, self.offset_s, time.continuous],
            "ground_truth": self.ground_truth_sha256,
            "erasures": [erasure.to_json() for erasure in self.erasures],
        }

    def known_start(self, info: VideoInfo) -> datetime | None:
        """When the recording began, UTC, where it says so itself: by its container or its name."""
        found = self.began(info)
        return found.utc if found.source in ("container", "filename") else None

    def began(self, info: VideoInfo) -> RecordingStart:
        """When the recording began."""
        return self._start(info.creation_time, info.start_s)

    def _start(self, creation_time: datetime | None, container_start_s: float) -> RecordingStart:
        return resolve_start(
            source=self.camera.time.source,
            name=self.path.name,
            pattern=self.camera.time.pattern,
            timezone=ZoneInfo(self.timezone),
            creation_time=creation_time,
            stated=self.start,
            offset_s=self.offset_s + (container_start_s if self.camera.time.continuous else 0.0),
        )


def ingest_recording(
    job: RecordingJob,
    progress: Callable[[float], None] = lambda _: None,
    *,
    detector: Detector | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Find, track and cut out the people of one recording.

    Memory does not grow with the recording's length, but for the tables (some kilobytes per tracklet).

    Args:
        job: what to do.
        progress: called now and then with the seconds of recording done.
        detector: to use; None: the one the site asks for.
        threads: decoder threads.

    Returns:
        The summary written beside the crops.

    Raises:
        VideoError: the recording gives no frame, or changes while it is read.
        DiskFull: its shard cannot be written.
        DetectorError, GroundTruthError, DecoderError: see there.
    """
    judge = None
    if job.ground_truth is not None:
        judge = Judge(load_ground_truth(job.ground_truth), str(job.ground_truth_sha256))
    if detector is None:
        detector = make_detector(job.detector, job.site_folder)
    with contextlib.closing(_preview(job, threads)) as preview:
        detector.begin(preview)
    with disk_full_said(job.folder.parent), VideoReader(job.path, threads=threads, device=decoding_device()) as reader:
        work = _Work(job, reader, detector, judge, progress)
        return work.run()


def _preview(job: RecordingJob, threads: int) -> Generator[NDArray[np.uint8]]:
    """What the detector is going to be shown, decoded as it is asked for."""
    sampler = FrameSampler(job.detector.fps)
    with VideoReader(job.path, threads=threads, device=decoding_device()) as reader:
        for frame in reader.frames():
            if sampler.wants(frame.pts_s):
                yield black_out(frame.image, job.camera.mask)


class _Work:
    """The state of `ingest_recording`."""

    def __init__(
        self,
        job: RecordingJob,
        reader: VideoReader,
        detector: Detector,
        judge: Judge | None,
        progress: Callable[[float], None],
    ) -> None:
        self.job, self.reader, self.detector, self.judge, self.progress = job, reader, detector, judge, progress
        self.start = job.began(reader.info)
        # Whoever tried before and died has left it unfinished.
        shutil.rmtree(job.folder, ignore_errors=True)
        self.writer = ShardWriter(job.folder, job.camera.id, job.video_id, self.start)
        self.fps = min(job.detector.fps, reader.info.fps)
        # A tracklet with fewer sure detections is dropped: half a second's worth.
        self.min_detections = min(5, max(3, round(self.fps / 2)))
        self.tracker = Tracker(self.fps, job.min_score)
        self.size = (0, 0)  # width and height of its pictures, known with the first one
        self.linker = TrackletLinker(1 / self.fps)
        # Whoever the linker may still go on with stays open.
        self.close_after_s = max(MEND_WITHIN_S, LOST_AFTER_S + 2 / self.fps) + 1 / self.fps
        self.open: dict[int, OpenTracklet] = {}  # by number
        self.suspects = Suspects()
        self.identities: dict[str, dict[str, Any]] = {}
        self.rejected_detections: Counter[str] = Counter()
        self.rejected_crops: Counter[str] = Counter()
        self.rejected_tracklets: Counter[str] = Counter()
        self.looked_at = 0
        self.detected = 0
        self.last_pts_s = 0.0
        self.erased = ErasedRegions(job.erasures)

    def run(self) -> dict[str, Any]:
        # While people are looked for in one frame, the next is decoded and the one before it is tracked and written.
        with ThreadPoolExecutor(1, "detector") as detecting:
            ahead: deque[tuple[Frame, NDArray[np.uint8], Future[Detections]]] = deque()
            for frame in self._wanted():
                image = black_out(frame.image, self.job.camera.mask)
                ahead.append((frame, image, detecting.submit(self.detector.detect, image)))
                if len(ahead) > FRAMES_AHEAD:
                    self._look_at(*ahead.popleft())
            while ahead:
                self._look_at(*ahead.popleft())
        if self.looked_at == 0:
            raise VideoError(f"{self.job.path}: not one frame of it can be decoded; record or copy it again")
        self._close(list(self.open))
        people, still = self.suspects.judge()
        for tracklet in people:
            self._write(tracklet)
        if still:
            self.rejected_tracklets["never moving"] = still
        if file_stamp(self.job.path) != self.job.stamp:
            raise StillWritten(
                f"{self.job.path}: changed while it was read; run this again when the recording has ended"
            )
        summary = self._summary()
        self.writer.finish(summary)
        return summary

    def _wanted(self) -> Iterator[Frame]:
        """The frames that are looked at."""
        sampler = FrameSampler(self.job.detector.fps)
        for frame in self.reader.frames():
            self.last_pts_s = frame.pts_s
            if sampler.wants(frame.pts_s):
                yield frame

    def _look_at(self, frame: Frame, image: NDArray[np.uint8], detected: Future[Detections]) -> None:
        self.looked_at += 1
        if self.looked_at % 10 == 0:
            self.progress(frame.pts_s)
        self.size = (image.shape[1], image.shape[0])
        self._close([n for n, open_ in self.open.items() if frame.pts_s - open_.last_seen_s > self.close_after_s])
        found = self._usable(detected.result(), frame.pts_s)
        sure = found.scores >= self.job.min_score
        self.detected += int(np.sum(sure))
        tracked = self.tracker.update(found, frame.pts_s)
        linked = self.linker.link(
            frame.pts_s, tracked, found.boxes, sure, lambda detection: appearance(image, found.boxes[detection])
        )
        if self.judge is not None:
            self.judge.detections(frame.index, found.boxes[sure])
            self.judge.tracked(frame.index, linked, found.boxes)
        for link in linked:
            self._add(frame, image, found, link, sure)

    def _usable(self, found: Detections, pts_s: float) -> Detections:
        """Boxes cut at the frame, without those that are too small, unreadable or erased; counted by reason."""
        width, height = self.size
        sure = found.scores >= self.job.min_score
        finite = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
        boxes = np.nan_to_num(found.boxes)
        boxes = np.clip(boxes, 0, np.asarray([width, height, width, height], np.float32)).astype(np.float32)
        tall = boxes[:, 3] - boxes[:, 1] >= self.job.detector.min_height_px
        wide = boxes[:, 2] - boxes[:, 0] >= MIN_CROP_PX
        kept = finite & tall & wide
        self.rejected_detections["too small"] += int(np.sum(sure & ~kept))
        ignored = stands_in(boxes, self.job.camera.ignore, self.size)
        self.rejected_detections["in an ignored zone"] += int(np.sum(sure & kept & ignored))
        gone = self.erased.cover(pts_s, boxes)
        self.rejected_detections["erased"] += int(np.sum(sure & kept & ~ignored & gone))
        return Detections(boxes, found.scores).keep(kept & ~ignored & ~gone)

    def _add(
        self, frame: Frame, image: NDArray[np.uint8], found: Detections, link: Linked, sure: NDArray[np.bool_]
    ) -> None:
        box, certain = found.boxes[link.detection], bool(sure[link.detection])
        sighting = Sighting(frame.index, frame.pts_s, box, float(found.scores[link.detection]))
        if link.tracklet not in self.open:
            self.open[link.tracklet] = OpenTracklet(link.tracklet, 1 / self.fps, self.min_detections)
        tracklet = self.open[link.tracklet]
        tracklet.add(sighting, sure=certain, clear=link.clear)
        if not certain:
            return
        crop = _cut(image, box)
        # Uncertain boxes are often a second box of the same person, or a shadow: they do not count as company.
        company = sure.copy()
        company[link.detection] = False
        seen = view(crop, box, found.boxes[company], self.size)
        if seen.fault is not None:
            self.rejected_crops[seen.fault] += 1
            return
        quality = seen.quality(sighting.score)
        tracklet.offer_crop(sighting, quality, lambda: encode_jpeg(crop, JPEG_QUALITY), clear=link.clear)

    def _close(self, numbers: list[int]) -> None:
        for number in sorted(numbers):
            tracklet = self.open.pop(number).finish(MAX_CROPS)
            reason = None
            if tracklet.detections < self.min_detections:
                reason = "too short"
            elif tracklet.sure < self.min_detections:
                reason = "too uncertain"
            elif not tracklet.crops:
                reason = "no usable picture"
            if reason is not None:
                self.rejected_tracklets[reason] += 1
                self._forget(number)
            elif never_moved(tracklet):
                for person in self.suspects.hold(tracklet):
                    self._write(person)
            else:
                self._write(tracklet)

    def _write(self, tracklet: Tracklet) -> None:
        tracklet_id = self.writer.add(tracklet)
        if self.judge is not None:
            self.identities[tracklet_id] = self.judge.keep(tracklet.number, clear=tracklet.clear)
        self._forget(tracklet.number)

    def _forget(self, number: int) -> None:
        if self.judge is not None:
            self.judge.forget(number)

    def _summary(self) -> dict[str, Any]:
        job, info = self.job, self.reader.info
        return {
            "shard_id": job.shard_id,
            "generation": job.generation,
            "camera_id": job.camera.id,
            "video_id": job.video_id,
            "video_sha256": job.video_sha256,
            "video_name": job.path.name,
            "video_bytes": job.stamp[0],
            "replaces": list(job.replaces),
            "width": self.size[0],
            "height": self.size[1],
            "codec": info.codec,
            "fps": info.fps,
            "container_start_s": info.start_s,
            "duration_s": max(self.last_pts_s, 0.0) + 1 / info.fps,
            "start": None if self.start.utc is None else self.start.utc.isoformat(),
            "time_source": self.start.source,
            "time_guessed": self.start.guessed,
            "settings": job.settings(),
            "detector": self.detector.name,
            "decode": asdict(self.reader.counts),
            "counts": {
                "frames": self.reader.counts.frames,
                "frames_looked_at": self.looked_at,
                "detections": self.detected,
                "tracklets": self.writer.tracklets,
                "crops": self.writer.crops,
            },
            "rejected": {
                "detections": {reason: count for reason, count in sorted(self.rejected_detections.items()) if count},
                "crops": dict(sorted(self.rejected_crops.items())),
                "tracklets": dict(sorted(self.rejected_tracklets.items())),
            },
            "ground_truth": None if self.judge is None else self.judge.summary(self.identities),
        }


def ground_truth_hash(path: Path | None) -> str | None:
    """Content hash of a ground truth file, None for none.

    Raises:
        SiteError: it is not there.
    """
    if path is None:
        return None
    if not path.is_file():
        raise site.SiteError(f"{path}: no such ground truth; correct the camera's 'ground_truth' in site.yaml")
    return sha256_file(path)


def _cut(image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The pixels of a box, rounded outwards; the box lies inside the image."""
    x1, y1 = int(np.floor(box[0])), int(np.floor(box[1]))
    x2, y2 = int(np.ceil(box[2])), int(np.ceil(box[3]))
    return image[y1:y2, x1:x2]
