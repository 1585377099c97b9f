"""Short clips out of the recordings, cut on demand.

A clip is decoded at its presentation times, the camera's mask and whoever was erased are blacked out in every frame
before it is encoded, and a thin frame follows the person. Times that were erased as a whole are left out. Clips are
made and kept in memory, up to a bound; nothing of them is ever on disk.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import NotFound
from ingest.erasures import ErasedRegions
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
        erased: what was erased of the recording.
    """

    recording: RecordingPath
    start_s: float
    end_s: float
    mask: Sequence[Polygon]
    path: Sequence[tuple[float, float, float, float, float]]
    max_width: int = 1280
    sound_clock: bool = True
    erased: ErasedRegions = field(default_factory=lambda: ErasedRegions([]))


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

    # The muxer reads its output again to move the index to the front, so it needs a file: this one has no name.
    memory = os.memfd_create("clip")
    try:
        frames = _encode(request, f"/proc/self/fd/{memory}")
        content = os.pread(memory, os.fstat(memory).st_size, 0) if frames else b""
    except (OSError, VideoError, av.error.FFmpegError) as error:
        raise NotFound(
            f"the recording of this clip cannot be read ({type(error).__name__}); is it still there?"
        ) from None
    finally:
        os.close(memory)
    if not content:
        raise NotFound("the recording has no picture at that time; it was erased, or replaced since it was ingested")
    return content


def _encode(request: ClipRequest, target: str) -> int:
    import av

    count = 0
    last_ms = -1
    stream: Any = None
    scale = 1.0
    with av.open(target, "w", format="mp4", options={"movflags": "+faststart"}) as output:
        for frame in frames_between(request.recording, request.start_s, request.end_s, sound_clock=request.sound_clock):
            pts_s = frame.pts_s
            milliseconds = round((pts_s - request.start_s) * 1000)
            if milliseconds <= last_ms:
                continue
            erased = request.erased.boxes_at(pts_s)
            if np.isinf(erased).any():
                continue  # all of that time was erased
            last_ms = milliseconds
            image = _without(black_out(frame.image, request.mask), erased)
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


def _without(image: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A picture of its own with boxes (n, 4) blacked out."""
    height, width = image.shape[:2]
    image = image.copy() if len(boxes) else image
    for x1, y1, x2, y2 in np.clip(boxes, 0, [width, height, width, height]):
        image[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 0
    return image


class ClipCache:
    """Clips already cut, the most recently wanted ones, within a bound of bytes. What two want is cut once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._clips: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._cutting: dict[tuple[object, ...], threading.Lock] = {}
        self._emptied = 0

    def find(self, key: tuple[object, ...]) -> bytes | None:
        """The clip of that key, where it is at hand."""
        with self._lock:
            return self._found(key)

    def clear(self) -> None:
        """Forget all clips, those too that are being cut now."""
        with self._lock:
            self._clips.clear()
            self._size = 0
            self._emptied += 1

    def get(self, key: tuple[object, ...], cut: Callable[[], bytes]) -> bytes:
        """The clip of that key, cut now when it is not at hand."""
        with self._lock:
            found = self._found(key)
            if found is not None:
                return found
            emptied = self._emptied
            cutting = self._cutting.setdefault(key, threading.Lock())
        with cutting:
            with self._lock:
                found = self._found(key)
            if found is not None:
                return found
            try:
                clip = cut()
            finally:
                with self._lock:
                    self._cutting.pop(key, None)
            with self._lock:
                if emptied == self._emptied:
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
