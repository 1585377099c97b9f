"""Clips: the right pictures at the right times, masked, and playable from the first byte."""

from __future__ import annotations

import io
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from gallery_service.errors import NotFound
from gallery_service.pictures.clips import ClipCache, ClipRequest, box_at, centred_span, cut_clip
from ingest.video import frames_between
from tests.ingest.conftest import HEIGHT, WIDTH
from tests.ingest.corpus import CASES, WALKERS
from tests.ingest.test_corpus import where

FPS = 10


def write_counting_video(path: Path, frames: int = 100, width: int = 96, height: int = 64, gop: int = 30) -> None:
    """Frame n is a grey of 2·n, so that a decoded picture says which one it is."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"g": str(gop), "qp": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            image = np.full((height, width, 3), 20 + 2 * number, np.uint8)
            picture = av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "count.mp4"
    write_counting_video(path)
    return path


def decode(clip: bytes) -> list[tuple[float, np.ndarray]]:
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return [
            (float(frame.pts * stream.time_base), frame.to_ndarray(format="bgr24"))
            for frame in container.decode(stream)
        ]


def number_of(image: np.ndarray) -> int:
    return round((float(np.median(image)) - 20) / 2)


def cut(recording: Path, start_s: float, end_s: float, **more: object) -> list[tuple[float, np.ndarray]]:
    request = ClipRequest(recording, start_s, end_s, **{"mask": [], "path": [], **more})  # type: ignore[arg-type]
    return decode(cut_clip(request))


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.0), (2.95, 4.0), (3.0, 4.0), (5.55, 8.0), (9.0, 15.0)])
def test_holds_the_pictures_of_that_time(recording: Path, start_s: float, end_s: float) -> None:
    frames = cut(recording, start_s, end_s)
    expected = [n for n in range(100) if start_s <= n / FPS <= end_s]
    assert len(frames) == len(expected)
    for (t, image), number in zip(frames, expected, strict=True):
        assert abs(number_of(image) - number) <= 1
        assert t == pytest.approx(number / FPS - start_s, abs=0.002)


def test_begins_at_once_in_a_player(recording: Path) -> None:
    clip = cut_clip(ClipRequest(recording, 1, 3, [], []))
    assert 0 < clip.index(b"moov") < clip.index(b"mdat")


def test_the_mask_is_black_and_nothing_else_is(recording: Path) -> None:
    masked = [[(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]]
    for _, image in cut(recording, 4, 6, mask=masked):
        assert image[:, :40].max() < 25
        assert image[:, 56:].min() > 60


def test_a_thin_frame_follows_the_person(recording: Path) -> None:
    path = [(4.0, 20.0, 20.0, 30.0, 40.0), (5.0, 60.0, 20.0, 70.0, 40.0)]
    frames = dict(cut(recording, 3.0, 6.0, path=path))
    plain = dict(cut(recording, 3.0, 6.0))
    for t, image in frames.items():
        difference = np.abs(image.astype(int) - plain[t]).max(axis=2) > 40
        on_path = 4.0 - 0.05 <= t + 3.0 <= 5.0 + 0.05
        assert difference.any() == on_path
        if on_path:
            centre = np.flatnonzero(difference.any(axis=0)).mean()
            assert centre == pytest.approx(25 + 40 * (t + 3.0 - 4.0), abs=2)


def test_wide_recordings_are_scaled_and_sides_are_even(tmp_path: Path) -> None:
    write_counting_video(tmp_path / "wide.mp4", 10, 642, 358)
    (_, image), *_ = cut(tmp_path / "wide.mp4", 0, 0.5, max_width=321)
    assert image.shape[:2] == (178, 320)


def test_a_recording_whose_times_do_not_begin_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "late.ts"
    write_counting_video(path)
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time
    numbers = [number_of(image) for _, image in cut(path, 5.0, 6.0)]
    assert abs(numbers[0] - 50) <= 1
    assert len(numbers) in (10, 11)


def test_seeking_behind_the_wanted_place_falls_back_to_the_beginning(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av.container

    direct = [frame.pts_s for frame in frames_between(recording, 4.0, 5.0, sound_clock=True)]
    original = av.open

    class Overshooting:
        def __init__(self, container: av.container.InputContainer) -> None:
            self._container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def seek(self, offset: int, **more: object) -> None:
            self._container.seek(offset * 2, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(av, "open", lambda *args, **more: Overshooting(original(*args, **more)))
    assert [frame.pts_s for frame in frames_between(recording, 4.0, 5.0, sound_clock=True)] == direct


def test_a_clip_shows_what_a_player_shows_where_ingest_saw_it(tmp_path: Path) -> None:
    """Turned recordings, wide pixels, and timestamps that begin anew in the middle."""
    corpus = {case.name: case for case in CASES}
    for name, sound in (
        ("turned-left.mp4", True),
        ("half-width.mp4", True),
        ("joined.ts", False),
        ("interlaced.ts", True),
    ):
        corpus[name].write(tmp_path / name)
        shown = dict(cut(tmp_path / name, 2.2, 3.5, sound_clock=sound))
        assert len(shown) >= 25
        for t, image in shown.items():
            assert image.shape == (HEIGHT, WIDTH, 3)
            left = where(image, WALKERS[0].feet)
            assert left is not None
            assert WALKERS[0].start + (left - WALKERS[0].x) / WALKERS[0].speed == pytest.approx(t + 2.2, abs=0.06)


@pytest.mark.parametrize("content", [b"", b"not a video" * 100, None])
def test_what_is_no_recording_is_not_found(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotFound, match="recording"):
        cut_clip(ClipRequest(path, 0, 1, [], []))


def test_a_time_after_the_end_is_not_found(recording: Path) -> None:
    with pytest.raises(NotFound, match="no picture at that time"):
        cut_clip(ClipRequest(recording, 100, 101, [], []))


def test_a_playlist_cannot_make_us_read_other_files(tmp_path: Path) -> None:
    write_counting_video(tmp_path / "secret.ts", 20)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(NotFound):
        cut_clip(ClipRequest(tmp_path / "list.mp4", 0, 1, [], []))


@pytest.mark.parametrize(
    ("start", "end", "seconds", "span"),
    [(10, 14, 6, (9, 15)), (0, 1, 6, (0, 6)), (10, 100, 6, (52, 58)), (5, 5, 4, (3, 7))],
)
def test_clips_are_centred_on_the_tracklet(start: float, end: float, seconds: float, span: tuple[float, float]) -> None:
    assert centred_span(start, end, seconds) == span


def test_boxes_lie_on_straight_lines_between_samples() -> None:
    path = [(1.0, 0.0, 0.0, 10.0, 20.0), (3.0, 20.0, 10.0, 30.0, 30.0)]
    np.testing.assert_allclose(box_at(path, 2.0), [10, 5, 20, 25])
    assert box_at(path, 0.5) is None
    assert box_at(path, 3.5) is None
    assert box_at([], 1.0) is None


def test_the_cache_keeps_what_fits_and_what_was_used_last() -> None:
    cut_now: list[str] = []

    def cutter(name: str, size: int) -> bytes:
        cut_now.append(name)
        return name.encode() * size

    cache = ClipCache(max_bytes=100)
    for name in "abab":
        assert cache.get((name,), lambda name=name: cutter(name, 40)) == name.encode() * 40
    assert cut_now == ["a", "b"]
    cache.get(("c",), lambda: cutter("c", 40))
    cache.get(("b",), lambda: cutter("b", 40))
    assert cut_now == ["a", "b", "c"]
    cache.get(("a",), lambda: cutter("a", 40))
    assert cut_now == ["a", "b", "c", "a"]
    cache.get(("big",), lambda: cutter("big", 400))
    cache.get(("big",), lambda: cutter("big", 400))
    assert cut_now[-2:] == ["big", "big"]


def test_one_clip_wanted_by_many_is_cut_once() -> None:
    cache = ClipCache(max_bytes=100)
    cut_now: list[int] = []
    begin = threading.Barrier(8)

    def cutter() -> bytes:
        cut_now.append(1)
        return b"clip"

    def want() -> None:
        begin.wait()
        assert cache.get(("one",), cutter) == b"clip"

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cut_now == [1]


def test_a_cut_that_fails_can_be_tried_again() -> None:
    cache = ClipCache(max_bytes=100)

    def fails() -> bytes:
        raise NotFound("gone")

    with pytest.raises(NotFound):
        cache.get(("one",), fails)
    assert cache.get(("one",), lambda: b"back") == b"back"
