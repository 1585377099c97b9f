"""Reading a recording: what it is, and its frames with exact times.

Time is PTS × time base, counted from the beginning of the recording. Recordings are taken as they come: damaged
packets are skipped and counted, a file that ends early gives what it has, and frames without a usable timestamp get an
estimate and are counted (`ingest.frame_clock`). Only a file with no readable frame at all is refused.

A picture is what a player shows: turned as the recording says, with square pixels, and without the comb of two fields.
"""

from __future__ import annotations

import itertools
import math
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ingest.frame_clock import FrameClock
from ingest.nvdec import as_the_processor_decodes
from ingest.recording_file import RecordingPath, StoreError, file_stamp, open_recording

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel

_FALLBACK_FPS = 25.0
_MAX_PIXELS = 64_000_000
# Wider or narrower pixels than this are damage, not a format. Half-width recordings of old recorders are 2 : 1.
_WIDEST_PIXEL = 4.0
_PASSED_ON = ("seek", "tell", "seekable", "close")


class VideoError(ValueError):
    """A file that is no usable recording; the message names it."""


class StillWritten(VideoError):  # noqa: N818 a state of the file, met by waiting
    """A recording that somebody is writing to."""


@dataclass(frozen=True)
class VideoInfo:
    """What a recording says about itself, before a frame is decoded.

    Attributes:
        duration_s: stated length in seconds, None when not stated.
        frames: stated number of frames, None when not stated.
        width, height: of a frame with square pixels, before it is turned, in pixels.
        codec: name, such as "h264".
        fps: average frame rate; an assumption (25) when the file does not say.
        creation_time: the container's, UTC, None when it has none.
        start_s: container time of the recording's beginning, in seconds; `Frame.pts_s` counts from there. Zero for
            nearly all files but MPEG-TS.
    """

    duration_s: float | None
    frames: int | None
    width: int
    height: int
    codec: str
    fps: float
    creation_time: datetime | None
    start_s: float


@dataclass
class DecodeCounts:
    """What happened while a recording was decoded.

    Attributes:
        frames: frames decoded.
        damaged: packets that could not be decoded and frames the decoder marks as damaged; they are not shown.
        pts_estimated: frames whose timestamp was missing, repeated or astray.
        clock_restarts: times the timestamps began anew, as when recordings were joined; the parts follow each other.
        truncated: the file ends before its stated length.
    """

    frames: int = 0
    damaged: int = 0
    pts_estimated: int = 0
    clock_restarts: int = 0
    truncated: bool = False


@dataclass(frozen=True)
class Frame:
    """One decoded frame. Its pixels are converted when first asked for, so a skipped frame costs only its decoding.

    Attributes:
        index: counts decoded frames from 0.
        pts_s: seconds from the beginning of the recording.
    """

    index: int
    pts_s: float
    _decoded: Any = field(repr=False)
    _picture: Callable[[Any], NDArray[np.uint8]] = field(repr=False)

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 BGR. All frames of a recording have one size: that of its `VideoInfo`, or, turned by
        a quarter, the same with width and height exchanged."""
        return self._picture(self._decoded)


class _Source:
    """A recording's bytes as FFmpeg wants them. It opens nothing itself, so that a script or a playlist dressed up as a
    video cannot make it. It takes an error for the end of the file, and half a recording must not be taken for a whole
    one because a store went away: so that is kept."""

    def __init__(self, path: RecordingPath) -> None:
        self._file = open_recording(path)
        self.name = path.name  # its ending helps to tell the container
        self.failure: StoreError | None = None
        self.seek, self.tell, self.seekable, self.close = (getattr(self._file, name) for name in _PASSED_ON)

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except StoreError as error:
            self.failure = error
        except OSError:
            pass  # a bad place on a disk: what was read before it is what there is
        return b""


class VideoReader:
    """A recording, opened. Use as a context manager.

    Args:
        path: of the file.
        threads: decoder threads; 0 lets the decoder choose.
        device: to decode on, from `ingest.nvdec.decoding_device`; None: the processor.

    Attributes:
        info: what the file says of itself.
        counts: what happened so far; complete after `frames` has ended.

    Raises:
        VideoError: missing, empty, not a video, or without a video stream.
        StoreError: a store does not give it. Reading on may raise it, too.
    """

    def __init__(self, path: RecordingPath, *, threads: int = 1, device: HWAccel | None = None) -> None:
        import av

        self.path = path
        self.counts = DecodeCounts()
        try:
            size, _ = file_stamp(path)
            if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
                raise VideoError(f"{path}: not a file")
            if size == 0:
                raise VideoError(f"{path}: empty (0 bytes); record or copy it again")
            self._source = _Source(path)
        except StoreError:
            raise
        except OSError as error:
            raise VideoError(f"{path}: cannot be opened: {error.strerror}; check the path in site.yaml") from None
        try:
            self._container = av.open(
                self._source, metadata_errors="replace", options={"protocol_whitelist": ""}, hwaccel=device
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            self._source.close()
            self._complain()
            raise VideoError(f"{path}: {_why_unreadable(path, error)}") from None
        try:
            self._stream = self._video_stream()
            self.info = self._probe()
        except BaseException:
            self.__exit__()
            raise
        self._fields: Any = None
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = threads

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()
        self._source.close()

    def frames(self) -> Iterator[Frame]:
        """All frames in order. Can be run through once."""
        end_s = 0.0
        step_s = 1.0 / self.info.fps
        clock = FrameClock(step_s)
        for pts_s, (index, decoded) in clock.follow(self._stamped()):
            end_s = pts_s + step_s
            self.counts.pts_estimated, self.counts.clock_restarts = clock.estimated, clock.restarts
            yield Frame(index, pts_s, decoded, self._picture)
        stated = self.info.duration_s
        if stated is not None and end_s < stated - max(1.0, 3 * step_s):
            self.counts.truncated = True

    def seek(self, pts_s: float) -> bool:
        """Go to a key frame before that time; `frames_as_stamped` begins there. False where the container cannot."""
        import av

        begin_s = pts_s + self.info.start_s
        try:
            self._container.seek(int(begin_s / self._stream.time_base), stream=self._stream, backward=True)
        except (av.FFmpegError, OverflowError, ValueError):
            self._complain()
            return False
        return True

    def frames_as_stamped(self) -> Iterator[Frame]:
        """Frames from where the reader stands, at their own timestamps as they are; those without one are left out.
        `Frame.index` counts from there."""
        for stamp, (index, decoded) in self._stamped():
            if stamp is not None:
                yield Frame(index, stamp, decoded, self._picture)

    def _stamped(self) -> Iterator[tuple[float | None, tuple[int, Any]]]:
        """Decoded frames that are whole, with their own timestamp and their number among all decoded frames."""
        for index, decoded in enumerate(self._decode()):
            self.counts.frames = index + 1
            if decoded.is_corrupt:
                self.counts.damaged += 1
                continue
            stamp = None
            if decoded.pts is not None and decoded.time_base is not None:
                stamp = float(decoded.pts * decoded.time_base) - self.info.start_s
            yield stamp, (index, decoded)

    def _picture(self, decoded: Any) -> NDArray[np.uint8]:
        decoded = as_the_processor_decodes(decoded)
        if decoded.interlaced_frame:
            decoded = self._one_field(decoded)
        # One thread: starting more costs more than they save.
        pixels = decoded.reformat(self.info.width, self.info.height, "bgr24", threads=1).to_ndarray()
        # Upright but for whole quarters: nothing else is in use, and boxes would not fit.
        return np.ascontiguousarray(np.rot90(pixels, round(decoded.rotation / 90) % 4))

    def _one_field(self, decoded: Any) -> Any:
        """The upper field. Unlike a filter that mixes fields over time it needs no neighbours, so that frames which are
        not looked at stay cheap, and who walks does not leave a ghost."""
        from av.filter import Graph

        if self._fields is None:
            graph = Graph()
            first = graph.add_buffer(
                width=decoded.width,
                height=decoded.height,
                format=decoded.format.name,
                time_base=self._stream.time_base,
            )
            graph.link_nodes(first, graph.add("field", "type=top"), graph.add("buffersink")).configure()
            self._fields = graph
        self._fields.push(decoded)
        return self._fields.pull()

    def _decode(self) -> Iterator[Any]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                self._complain()
                return
            except IndexError:
                # A packet of a stream that comes up in the middle, which PyAV does not know: damage. It is read past.
                self.counts.damaged += 1
                packets = self._container.demux(self._stream)
                continue
            except (av.FFmpegError, OSError, ValueError):
                # The container itself ends in the middle of something: what was decoded is what there is.
                self._complain()
                self.counts.truncated = True
                packet = None
            try:
                # None flushes the frames a threaded or reordering decoder still holds.
                yield from self._stream.decode(packet)
            except (av.FFmpegError, ValueError):
                self.counts.damaged += 1
            if packet is None:
                return

    def _complain(self) -> None:
        """Raise what went wrong with the store, if anything did."""
        if self._source.failure is not None:
            raise self._source.failure

    def _video_stream(self) -> Any:
        from av.stream import Disposition

        for stream in self._container.streams.video:
            if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
                return stream
        if self._container.streams.video:
            raise VideoError(f"{self.path}: its video is in a codec that is not known here; convert it to H.264, say")
        kinds = ", ".join(sorted({stream.type for stream in self._container.streams}))
        raise VideoError(f"{self.path}: holds no video, {f'only {kinds}' if kinds else 'and nothing else'}")

    def _probe(self) -> VideoInfo:
        stream, container = self._stream, self._container
        width, height = stream.codec_context.width, stream.codec_context.height
        if width > 0:
            width = max(1, round(width * _pixel_width(stream.sample_aspect_ratio)))
        if width <= 0 or height <= 0:
            raise VideoError(f"{self.path}: its frame size is not readable; the file is damaged at its beginning")
        if width * height > _MAX_PIXELS:
            raise VideoError(f"{self.path}: frames of {width}×{height} are larger than {_MAX_PIXELS} pixels")
        duration = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration = container.duration / 1_000_000
        if duration is not None and not 0 < duration < 10 * 365 * 86400:
            duration = None
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else _FALLBACK_FPS
        if not (math.isfinite(fps) and 0.01 <= fps <= 1000):
            fps = _FALLBACK_FPS
        start_s = 0.0
        if stream.start_time is not None and stream.time_base is not None:
            start_s = float(stream.start_time * stream.time_base)
        return VideoInfo(
            duration_s=duration,
            frames=stream.frames or None,
            width=width,
            height=height,
            codec=stream.codec_context.name,
            fps=fps,
            creation_time=_creation_time({**container.metadata, **stream.metadata}),
            start_s=start_s,
        )


def probe(path: RecordingPath) -> VideoInfo:
    """What a recording says of itself, without decoding a frame.

    Raises:
        VideoError: see `VideoReader`.
    """
    with VideoReader(path) as reader:
        return reader.info


def frames(path: RecordingPath) -> Iterator[Frame]:
    """All frames of a recording in order.

    Raises:
        VideoError: see `VideoReader`.
    """
    with VideoReader(path) as reader:
        yield from reader.frames()


def frames_between(path: RecordingPath, start_s: float, end_s: float, *, sound_clock: bool) -> Iterator[Frame]:
    """The frames of a recording between two times in seconds, both included, in order.

    Args:
        path: of the recording.
        start_s, end_s: seconds from the beginning of the recording.
        sound_clock: its timestamps are right as they stand, so that it need not be decoded from the beginning. Seeking
            may land behind the wanted place where a container's index is wrong; it is then decoded from the beginning
            all the same.

    Raises:
        VideoError: see `VideoReader`.
    """
    if sound_clock and start_s > 0:
        with VideoReader(path, threads=0) as reader:
            source = reader.frames_as_stamped() if reader.seek(start_s) else iter(())
            first = next(source, None)
            if first is not None and first.pts_s <= start_s:
                yield from _within(itertools.chain([first], source), start_s, end_s)
                return
    with VideoReader(path, threads=0) as reader:
        yield from _within(reader.frames(), start_s, end_s)


def _within(source: Iterable[Frame], start_s: float, end_s: float) -> Iterator[Frame]:
    for frame in source:
        if frame.pts_s > end_s:
            return
        if frame.pts_s >= start_s:
            yield frame


class FrameSampler:
    """Chooses `fps` frames per second by timestamp: the first frame in each slot of 1/fps seconds.

    A recording slower than that has all its frames looked at; one with gaps or a changing rate is looked at evenly in
    time.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._slot = -math.inf

    def wants(self, pts_s: float) -> bool:
        """Whether the frame at `pts_s` is to be looked at; called once per frame, in order."""
        # Times such as 0.3 s × 10 fall just short of their slot in floating point.
        slot = math.floor(pts_s * self._fps + 1e-6)
        if slot <= self._slot:
            return False
        self._slot = slot
        return True


def _pixel_width(ratio: Fraction | None) -> float:
    """Width of a pixel in heights of a pixel; 1 where nothing or nonsense is stated."""
    width = float(ratio or 1)
    return width if 1 / _WIDEST_PIXEL <= width <= _WIDEST_PIXEL else 1.0


def _creation_time(metadata: dict[str, str]) -> datetime | None:
    for key in ("creation_time", "com.apple.quicktime.creationdate", "date"):
        text = metadata.get(key, "")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            continue
        if moment.tzinfo is not None:
            try:
                return moment.astimezone(UTC)
            except OverflowError:  # in the year 9999
                continue
        if key == "creation_time":
            # The MP4 and Matroska standards give this field in UTC.
            return moment.replace(tzinfo=UTC)
    return None


def _why_unreadable(path: RecordingPath, error: BaseException) -> str:
    with open_recording(path) as file:
        if file.read(12)[4:8] == b"ftyp":
            return (
                "an MP4 or MOV whose index (moov) cannot be read, because its recorder has not finished it; wait until "
                f"it has, or repair the file ({_reason(error)})"
            )
    return f"not a video that can be read ({_reason(error)})"


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
