"""Tiny recordings made on the spot, and a detector that finds what is drawn in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.detection import Detections
from ingest.recording import RecordingJob
from ingest.recording_file import file_stamp
from ingest.site import Camera, Detector
from models.atomic import sha256_file

WIDTH, HEIGHT, FPS = 320, 240, 20


@dataclass(frozen=True)
class Walker:
    """A pure blue block that walks from left to right: 24×72 pixels, feet at `feet`, from `start` to `end` seconds."""

    feet: int = 200
    start: float = 0.0
    end: float = 1e9
    x: float = 20.0
    speed: float = 40.0

    def box(self, t: float) -> tuple[int, int, int, int] | None:
        if not self.start <= t < self.end:
            return None
        x = round(self.x + self.speed * (t - self.start))
        return (x, self.feet - 72, x + 24, self.feet)


def draw(t: float, walkers: Sequence[Walker]) -> NDArray[np.uint8]:
    """The picture at second t, BGR."""
    ground = np.indices((HEIGHT, WIDTH)).sum(axis=0) // 16 % 2
    frame = np.repeat((90 + 60 * ground).astype(np.uint8)[..., None], 3, axis=2)
    for walker in walkers:
        box = walker.box(t)
        if box is not None:
            x1, y1, x2, y2 = box
            cv2.rectangle(frame, (x1, y1), (x2 - 1, y2 - 1), (255, 0, 0), -1)
            cv2.rectangle(frame, (x1 + 6, y1 + 12), (x2 - 7, y1 + 30), (255, 60, 60), -1)
    return frame


def write_video(
    path: Path,
    seconds: float = 3.0,
    walkers: Sequence[Walker] = (Walker(),),
    *,
    creation_time: str | None = None,
    format_: str | None = None,
    gap: tuple[float, float] | None = None,
    begin: float = 0.0,
    picture: Callable[[float], NDArray[np.uint8]] | None = None,
    clock: Callable[[int], float] = lambda index: index / FPS,
) -> Path:
    """A real H.264 file. `gap` = (at, length): the timestamps jump by `length` seconds at second `at`.
    `begin`: timestamp of the first frame, in seconds. `clock`: seconds from there to each frame's timestamp."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=format_) as container:
        if creation_time is not None:
            container.metadata["creation_time"] = creation_time
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12", "preset": "ultrafast", "g": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        for index in range(round(seconds * FPS)):
            t = index / FPS
            pixels = draw(t, walkers) if picture is None else picture(t)
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (begin + clock(index) + (gap[1] if gap is not None and t >= gap[0] else 0.0)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_cameras(folder: Path, count: int, seconds: float) -> list[dict[str, Any]]:
    """A recording for each of so many cameras, a walker in each; the cameras as site.yaml has them."""
    cameras = []
    for number in range(count):
        walkers = [Walker(feet=110 + 10 * number, start=0.8, speed=45)]
        path = write_video(folder / f"cam{number}.mp4", seconds, walkers, creation_time="2026-03-01T08:00:00Z")
        cameras.append({"id": f"cam{number}", "videos": [str(path)]})
    return cameras


def write_audio(path: Path) -> Path:
    """A file with sound and no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class BlueDetector:
    """Finds pure blue blocks, which nothing else in the drawn recordings is."""

    name = "blue"

    def __init__(self, score: float = 0.9) -> None:
        self.score = score
        self.begun = 0

    def fingerprint(self) -> str:
        return f"blue-{self.score}"

    def begin(self, preview: Iterable[NDArray[np.uint8]]) -> None:
        self.begun += 1

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        blue = ((frame[..., 0] > 180) & (frame[..., 1] < 110) & (frame[..., 2] < 110)).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(blue)
        boxes = [[x, y, x + w, y + h] for x, y, w, h, area in stats[1:count] if area > 40]
        return Detections(np.asarray(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), self.score, np.float32))


def make_job(path: Path, folder: Path, **changes: object) -> RecordingJob:
    """A job for one recording; `changes` override fields."""
    camera = Camera.model_validate({"id": "cam1", "videos": [str(path)]})
    values: dict[str, object] = {
        "path": path,
        "stamp": file_stamp(path),
        "video_sha256": sha256_file(path),
        "camera": camera,
        "timezone": "UTC",
        "detector": Detector.model_validate({}),
        "site_folder": path.parent,
        "start": None,
        "offset_s": 0.0,
        "erasures": (),
        "ground_truth": None,
        "ground_truth_sha256": None,
        "detector_fingerprint": "blue",
        "folder": folder,
    }
    return RecordingJob(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds in which one block walks; recorded 2026-03-01 08:00 UTC."""
    return write_video(tmp_path_factory.mktemp("walk") / "walk.mp4", creation_time="2026-03-01T08:00:00.000000Z")
