"""Short clips out of the recordings, cut on demand.

A clip is decoded at its presentation times, the camera's mask is blacked out in every frame before it is encoded, and
a thin frame follows the person. Finished clips stay in memory, up to a bound; none is kept on disk.
"""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import NotFound
from ingest.mask import Polygon, black_out
from ingest.recording_file import RecordingPath
from ingest.video import VideoError, frames_between

# Milliseconds: every recording's times fit, and players take it.
_TIME_BASE = Fraction(1, 1000)
_FRAME_COLOUR = (60, 200, 255)  # BGR amber


@dataclass(frozen=True)
class ClipRequest:
    """What to cut.

    Attributes:
        recording: the video file.
        start_s, end_s: seconds from the beginning of the recording.
        mask: polygons in fractions of the frame, blacked out.
        path: the person's boxes, rows of t, x1, y1, x2, y2 by ascending t, in seconds and pixels; may be empty.
        max_width: wider recordings are scaled down, pixels.
        sound_clock: the recording's timestamps are right as they stand (`ingest.video.frames_between`).
    """

    recording: RecordingPath
    start_s: float
    end_s: float
    mask: Sequence[Polygon]
    path: Sequence[tuple[float, float, float, float, float]]
    max_width: int = 1280
    sound_clock: bool = True


def centred_span(start_s: float, end_s: float, seconds: float) -> tuple[float, float]:
    """A span of so many seconds round the middle of a tracklet, never before the recording begins."""
    begin = max(0.0, (start_s + end_s - seconds) / 2)
    return begin, begin + seconds


def box_at(path: Sequence[tuple[float, float, float, float, float]], t: float) -> NDArray[np.float64] | None:
    """The person's box at a time: between two sampled boxes a straight line, None outside the path.

    Args:
        path: see `ClipRequest`.
        t: seconds.

    Returns:
        float64 (4,): x1, y1, x2, y2 in pixels.
    """
    if not path or not path[0][0] - 0.05 <= t <= path[-1][0] + 0.05:
        return None
    samples = np.asarray(path, np.float64)
    return np.array([np.interp(t, samples[:, 0], samples[:, column]) for column in range(1, 5)])


def cut_clip(request: ClipRequest) -> bytes:
    """Cut and encode a clip.

    Returns:
        MP4 with H.264, its index in front, so that a browser starts at once.

    Raises:
        NotFound: the recording is gone, cannot be decoded, or has nothing at that time.
    """
    import av

    try:
        # The muxer reads its output again to move the index to the front, so it needs a real file.
        with tempfile.TemporaryDirectory(prefix="calr-clip-") as folder:
            target = Path(folder) / "clip.mp4"
            frames = _encode(request, target)
            content = target.read_bytes() if frames else b""
    except (OSError, VideoError, av.error.FFmpegError) as error:
        raise NotFound(
            f"the recording of this clip cannot be read ({type(error).__name__}); is it still there?"
        ) from None
    if not content:
        raise NotFound("the recording has no picture at that time; it may have been replaced since it was ingested")
    return content


def _encode(request: ClipRequest, target: Path) -> int:
    import av

    count = 0
    last_ms = -1
    stream: Any = None
    scale = 1.0
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as output:
        for frame in frames_between(request.recording, request.start_s, request.end_s, sound_clock=request.sound_clock):
            pts_s = frame.pts_s
            milliseconds = round((pts_s - request.start_s) * 1000)
            if milliseconds <= last_ms:
                continue
            last_ms = milliseconds
            image = black_out(frame.image, request.mask)
            if stream is None:
                height, width = image.shape[:2]
                scale = min(1.0, request.max_width / width)
                stream = output.add_stream("libx264", options={"preset": "veryfast", "crf": "23"})
                # H.264 with 4:2:0 colour needs even sides.
                stream.width, stream.height = max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)
                stream.pix_fmt = "yuv420p"
                stream.time_base = stream.codec_context.time_base = _TIME_BASE
            size = (stream.width, stream.height)
            if (image.shape[1], image.shape[0]) != size:
                image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            box = box_at(request.path, pts_s)
            if box is not None:
                x1, y1, x2, y2 = (round(float(value) * scale) for value in box)
                cv2.rectangle(image, (x1 - 2, y1 - 2), (x2 + 2, y2 + 2), _FRAME_COLOUR, 1, cv2.LINE_AA)
            # OpenCV rounds where the encoder's own conversion cuts off, which would tint every picture green.
            planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.pts, picture.time_base = milliseconds, _TIME_BASE
            output.mux(stream.encode(picture))
            count += 1
        if stream is not None:
            output.mux(stream.encode(None))
    return count


class ClipCache:
    """Clips already cut, the most recently wanted ones, within a bound of bytes.

    Two requests for one clip cut it once. At most `at_once` clips are cut at the same time, so that playing a page full
    of matches leaves the machine something for searching.
    """

    def __init__(self, max_bytes: int, at_once: int = 2) -> None:
        self._max_bytes = max_bytes
        self._clips: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._cutting: dict[tuple[object, ...], threading.Lock] = {}
        self._slots = threading.Semaphore(at_once)

    def get(self, key: tuple[object, ...], cut: Callable[[], bytes]) -> bytes:
        """The clip of that key, cut now when it is not at hand."""
        with self._lock:
            found = self._found(key)
            if found is not None:
                return found
            cutting = self._cutting.setdefault(key, threading.Lock())
        with cutting:
            with self._lock:
                found = self._found(key)
            if found is not None:
                return found
            try:
                with self._slots:
                    clip = cut()
            finally:
                with self._lock:
                    self._cutting.pop(key, None)
            with self._lock:
                self._keep(key, clip)
            return clip

    def _found(self, key: tuple[object, ...]) -> bytes | None:
        clip = self._clips.get(key)
        if clip is not None:
            self._clips.move_to_end(key)
        return clip

    def _keep(self, key: tuple[object, ...], clip: bytes) -> None:
        if len(clip) > self._max_bytes or key in self._clips:
            return
        self._clips[key] = clip
        self._size += len(clip)
        while self._size > self._max_bytes:
            _, dropped = self._clips.popitem(last=False)
            self._size -= len(dropped)
