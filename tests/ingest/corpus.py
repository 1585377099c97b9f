"""A corpus of recordings: every codec, container and fault that ingest must cope with, written on the spot.

`python -m tests.ingest.corpus FOLDER` writes the files and a site.yaml with a camera for each of them, `--table` prints
what becomes of them.

What is recorded is always the same: blocks that walk to the right, 40 pixels a second, one of them in the picture
from 0.8 s on. Where a block is tells what time it is, so that times can be judged without believing any timestamp.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from tests.ingest.conftest import FPS, HEIGHT, WIDTH, Walker, draw, write_audio

SECONDS = 4.0
START = "2026-03-01T08:00:00.000000Z"
# Far apart, so that nothing but the recording decides whether they are found.
WALKERS = (Walker(feet=110, start=0.8), Walker(feet=220, start=1.2, x=180.0))

Outcome = Literal["whole", "partly", "refused"]


@dataclass(frozen=True)
class Case:
    """One file of the corpus.

    Attributes:
        name: of the file.
        write: makes it.
        outcome: "whole", everything in it becomes frames; "partly", what decodes does, and the rest is counted;
            "refused", nothing does, and the file is named.
        says: what the status must say about it, a piece of the remark or of the refusal.
        timed: whether times can be checked (they cannot where the file holds none).
        frames: how many it has.
    """

    name: str
    write: Callable[[Path], object]
    outcome: Outcome = "whole"
    says: str = ""
    timed: bool = True
    frames: int = round(SECONDS * FPS)

    @property
    def camera(self) -> str:
        """The camera that has this file."""
        return self.name.replace(".", "-")


def record(
    path: Path,
    codec: str = "libx264",
    *,
    pixels: str = "yuv420p",
    container: str | None = None,
    clock: Callable[[int], float] = lambda index: index / FPS,
    seconds: float = SECONDS,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    change: Callable[[NDArray[np.uint8], float], NDArray[np.uint8]] = lambda picture, _: picture,
    rotation: int = 0,
    pixel_width: Fraction | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> None:
    """Write the walk.

    Args:
        path: file to write.
        codec: encoder.
        pixels: pixel format.
        container: format; None: by the file's name.
        clock: second at which the frame of that number is seen, which is its timestamp too.
        seconds: frames at `clock` times from here on are left out.
        size: width and height of the coded picture, which `change` must bring about.
        change: what is done to a picture (of that second) before it is encoded.
        rotation: degrees counter-clockwise that a player is told to turn the picture.
        pixel_width: width of a pixel in heights of one.
        sound: put a sound track beside it.
        options: for the encoder.
    """
    import av

    with av.open(str(path), "w", format=container) as output:
        output.metadata["creation_time"] = START
        fixed_rate = codec in ("mpeg4", "mpeg2video", "mjpeg") or path.suffix == ".avi"
        stream: Any = output.add_stream(codec, rate=FPS, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        base = Fraction(1, FPS) if fixed_rate else Fraction(1, 1000)
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        if pixel_width is not None:
            stream.codec_context.sample_aspect_ratio = pixel_width
        if rotation:
            stream.set_display_rotation(rotation)
        voice: Any = output.add_stream("aac", rate=16000) if sound else None
        for index in range(round(SECONDS * FPS)):
            t = clock(index)
            if t >= seconds:
                break
            frame = av.VideoFrame.from_ndarray(change(draw(t, WALKERS), t), format="bgr24")
            frame.time_base = base
            frame.pts = round(t / base)
            output.mux(stream.encode(frame))
            if voice is not None and index % FPS == 0:
                noise = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
                noise.sample_rate, noise.pts = 16000, index // FPS * 16000
                output.mux(voice.encode(noise))
        output.mux(stream.encode(None))
        if voice is not None:
            output.mux(voice.encode(None))


_H264 = {"crf": "14", "preset": "ultrafast", "g": "20"}
_HEVC = {"crf": "14", "preset": "ultrafast", "x265-params": "log-level=0"}
# As cameras encode: no frame refers to a later one.
_AV1 = {"crf": "8", "preset": "12", "svtav1-params": "lp=1:pred-struct=1"}
_VP9 = {"deadline": "realtime", "cpu-used": "8", "b": "4000000"}


def _as(codec: str, options: dict[str, str], **changes: Any) -> Callable[[Path], None]:
    return lambda path: record(path, codec, options=options, **changes)


def _h264(**changes: Any) -> Callable[[Path], None]:
    return _as("libx264", _H264, **changes)


def _uneven(index: int) -> float:
    """A camera that slows down in the dark: 20 frames a second, then 5, then 20."""
    if index < 30:
        return index / FPS
    if index < 40:
        return 1.5 + (index - 30) / 5
    return 3.5 + (index - 40) / FPS


def _combed(picture: NDArray[np.uint8], t: float) -> NDArray[np.uint8]:
    """Every second line is half a frame later, as in interlaced recordings."""
    combed = picture.copy()
    combed[1::2] = draw(t + 0.5 / FPS, WALKERS)[1::2]
    return combed


def _squeezed(picture: NDArray[np.uint8], _: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (WIDTH // 2, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _turned(quarters: int) -> Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]:
    return lambda picture, _: np.ascontiguousarray(np.rot90(picture, quarters))


def _changed(write: Callable[[Path], object], change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def both(path: Path) -> None:
        write(path)
        path.write_bytes(change(path.read_bytes()))

    return both


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def _damaged(data: bytes) -> bytes:
    """200 bytes turned over, all in the middle third."""
    damaged, draws = bytearray(data), random.Random(3)
    for position in draws.sample(range(len(data) // 3, 2 * len(data) // 3), 200):
        damaged[position] ^= 0xFF
    return bytes(damaged)


def _hole(data: bytes) -> bytes:
    """A tenth of it is zeros, as after a bad sector."""
    at, length = len(data) // 2, len(data) // 10
    return data[:at] + bytes(length) + data[at + length :]


def pts_positions(data: bytes) -> list[int]:
    """Where a transport stream keeps the timestamps of its video packets (five bytes each)."""
    found, at = [], 0
    while (at := data.find(b"\x00\x00\x01\xe0", at)) >= 0:
        if data[at + 7] & 0x80:
            found.append(at + 9)
        at += 4
    return found


def _one_astray(data: bytes) -> bytes:
    """One timestamp is an hour late."""
    position = pts_positions(data)[40]
    stamp = bytearray(data)
    five = int.from_bytes(stamp[position : position + 5])
    ticks = (five >> 33 & 7) << 30 | (five >> 17 & 0x7FFF) << 15 | (five >> 1 & 0x7FFF)
    ticks += 3600 * 90_000
    five = five >> 36 << 36 | (ticks >> 30) << 33 | 1 << 32 | (ticks >> 15 & 0x7FFF) << 17 | 1 << 16
    five |= (ticks & 0x7FFF) << 1 | 1
    stamp[position : position + 5] = five.to_bytes(5)
    return bytes(stamp)


def _no_frames(path: Path) -> None:
    """A file with a video stream and nothing in it."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        output.start_encoding()


def _joined(path: Path) -> None:
    """Two transport streams in one file; the second begins its timestamps anew."""
    half = path.with_suffix(".half.ts")
    parts = []
    for begin in (0.0, SECONDS / 2):
        record(
            half,
            seconds=SECONDS / 2,
            clock=lambda index: index / FPS,
            change=lambda _, t, begin=begin: draw(t + begin, WALKERS),
            options=_H264,
        )
        parts.append(half.read_bytes())
    half.unlink()
    path.write_bytes(b"".join(parts))


_PROFILES: list[Case] = [
    Case("h264.mp4", _h264()),
    Case("h264.mkv", _h264()),
    Case("h264.mov", _h264()),
    Case("h264.ts", _h264(container="mpegts")),
    Case("h264.avi", _h264()),
    Case("h264-b-frames.mp4", _as("libx264", {"crf": "14", "preset": "medium", "bf": "3"})),
    Case("h264-444.mp4", _h264(pixels="yuv444p")),
    Case("h264-10-bit.mp4", _h264(pixels="yuv420p10le")),
    Case("hevc.mp4", _as("libx265", _HEVC)),
    Case("hevc-10-bit.mkv", _as("libx265", _HEVC, pixels="yuv420p10le")),
    Case("mpeg4.avi", _as("mpeg4", {"b": "4000000"})),
    Case("mpeg4.mp4", _as("mpeg4", {"b": "4000000"})),
    Case("mjpeg.avi", _as("mjpeg", {"b": "8000000"}, pixels="yuvj420p")),
    Case("mjpeg.mov", _as("mjpeg", {"b": "8000000"}, pixels="yuvj420p")),
    Case("vp9.webm", _as("libvpx-vp9", _VP9)),
    Case("av1.mp4", _as("libsvtav1", _AV1)),
    Case("av1.mkv", _as("libsvtav1", _AV1)),
    Case("mpeg2.ts", _as("mpeg2video", {"b": "6000000"})),
    Case("ffv1.mkv", _as("ffv1", {})),
    Case("with-sound.mp4", _h264(sound=True)),
]
_SHAPES: list[Case] = [
    Case("variable-rate.mp4", _h264(clock=_uneven), frames=50),
    Case("variable-rate.mkv", _h264(clock=_uneven), frames=50),
    Case("interlaced.ts", _as("mpeg2video", {"b": "8000000", "flags": "+ilme+ildct", "top": "1"}, change=_combed)),
    Case("turned-left.mp4", _h264(size=(HEIGHT, WIDTH), change=_turned(-1), rotation=90)),
    Case("turned-right.mp4", _h264(size=(HEIGHT, WIDTH), change=_turned(1), rotation=-90)),
    Case("upside-down.mp4", _h264(change=_turned(2), rotation=180)),
    Case("half-width.mp4", _h264(size=(WIDTH // 2, HEIGHT), change=_squeezed, pixel_width=Fraction(2, 1))),
]
_FAULTS: list[Case] = [
    Case("no-timestamps.h264", _h264(container="h264"), says="got an estimate", timed=False),
    Case("one-astray.ts", _changed(_h264(container="mpegts"), _one_astray), says="got an estimate"),
    Case("joined.ts", _joined, says="begin anew"),
    Case("cut-short.mkv", _changed(_h264(), _cut), "partly", "ends before"),
    Case("cut-short.ts", _changed(_h264(container="mpegts"), _cut), "partly", "damaged"),
    Case("cut-short.avi", _changed(_h264(), _cut), "partly", "damaged"),
    Case("no-index.mp4", _changed(_h264(), _cut), "refused", "index (moov) cannot be read"),
    Case("damaged.mp4", _changed(_h264(), _damaged), "partly", "damaged"),
    Case("damaged.ts", _changed(_h264(container="mpegts"), _damaged), "partly", "damaged"),
    Case("hole.mkv", _changed(_h264(), _hole), "partly", ""),
    Case("sound-only.m4a", write_audio, "refused", "holds no video"),
    Case("no-frames.mp4", _no_frames, "refused", ""),
    Case("empty.mp4", lambda path: path.touch(), "refused", "empty"),
    Case("text.mp4", lambda path: path.write_text("no video\n" * 500), "refused", "not a video"),
    Case("noise.mp4", lambda path: path.write_bytes(random.Random(1).randbytes(40_000)), "refused", "not a video"),
    Case(
        "playlist.mp4",
        lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
        "refused",
        "",
    ),
    Case("nowhere.mp4", lambda path: path.symlink_to("gone.mp4"), "refused", "cannot be opened"),
]
CASES = [*_PROFILES, *_SHAPES, *_FAULTS]


def write_corpus(folder: Path) -> None:
    """All files, and a site.yaml that gives each of them to a camera of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        case.write(folder / case.name)
    site = {
        "schema": 1,
        "name": "corpus",
        "cameras": [{"id": case.camera, "videos": [case.name]} for case in CASES],
        "detector": {"fps": FPS},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site, sort_keys=False))


def outcome_table() -> str:
    """The corpus as a Markdown table, for docs/recordings.md."""
    meaning = {"whole": "taken whole", "partly": "taken as far as it decodes", "refused": "refused"}
    rows = [f"| `{case.name}` | {meaning[case.outcome]} | {case.says or '–'} |" for case in CASES]
    return "\n".join(["| file | outcome | what is said about it |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        sys.stdout.write(outcome_table())
    else:
        write_corpus(Path(sys.argv[1]))
