"""Decoding: exact times, and everything that is wrong with real files."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.video import FrameSampler, VideoError, VideoReader, frames, probe
from tests.ingest.conftest import FPS, HEIGHT, WIDTH, Walker, draw, write_audio, write_video
from tests.ingest.corpus import write_corpus
from tests.soak import mutated


def test_what_a_file_says(walk: Path) -> None:
    info = probe(walk)
    assert (info.width, info.height, info.codec, info.frames) == (WIDTH, HEIGHT, "h264", 3 * FPS)
    assert info.duration_s == pytest.approx(3.0, abs=0.06)
    assert info.creation_time == datetime(2026, 3, 1, 8, tzinfo=UTC)


def test_every_frame_at_its_time(walk: Path) -> None:
    seen = [(frame.index, frame.pts_s, frame.image) for frame in frames(walk)]
    assert [index for index, _, _ in seen] == list(range(3 * FPS))
    np.testing.assert_allclose([pts for _, pts, _ in seen], np.arange(3 * FPS) / FPS, atol=1e-6)
    for _, pts, image in seen[::17]:
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert image.dtype == np.uint8
        difference = np.abs(image.astype(int) - draw(pts, [Walker()]).astype(int))
        assert difference.mean() < 8


def test_times_follow_the_timestamps_not_the_count(tmp_path: Path) -> None:
    path = write_video(tmp_path / "gap.mp4", 1.0, gap=(0.5, 7.0))
    times = [frame.pts_s for frame in frames(path)]
    assert times[9] == pytest.approx(0.45)
    assert times[10] == pytest.approx(7.5)


def test_a_transport_stream_starts_at_zero(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 1.0, format_="mpegts", begin=5.0)
    assert probe(path).start_s > 4
    times = [frame.pts_s for frame in frames(path)]
    np.testing.assert_allclose(times, np.arange(FPS) / FPS, atol=2e-3)


def test_frames_without_timestamps_are_estimated_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "raw.h264", 1.0, format_="h264")
    with VideoReader(path) as reader:
        times = [frame.pts_s for frame in reader.frames()]
        assert len(times) == FPS
        assert all(b > a for a, b in pairwise(times))
        assert reader.counts.pts_estimated == len(times)


def test_a_script_dressed_up_as_a_recording_opens_nothing(tmp_path: Path) -> None:
    """FFmpeg's concat script would show another recording, which may be another camera's, under other masks."""
    write_video(tmp_path / "other.mp4")
    (tmp_path / "it.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(VideoError, match=r"it\.mp4: "):
        probe(tmp_path / "it.mp4")


def test_a_stream_that_comes_up_in_the_middle_is_damage_and_read_past(tmp_path: Path) -> None:
    """PyAV knows the streams of the beginning only; this change to an MPEG-TS was found by fuzzing."""
    write_corpus(tmp_path)
    path = tmp_path / "interlaced.ts"
    path.write_bytes(mutated(path.read_bytes(), random.Random("1-272")))
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader.frames()) > 0
        assert reader.counts.damaged > 0


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "audio", "folder", "header only", "noise"])
def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, walk: Path, kind: str) -> None:
    path = tmp_path / "it.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is not a video\n" * 100)
    elif kind == "audio":
        write_audio(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "header only":
        path.write_bytes(walk.read_bytes()[:40])
    elif kind == "noise":
        path.write_bytes(random.Random(1).randbytes(20_000))
    with pytest.raises(VideoError, match=r"it\.mp4: "):
        probe(path)


def test_a_playlist_fetches_nothing(tmp_path: Path, walk: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        list(frames(path))


def test_a_truncated_file_gives_what_it_has(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", 4.0).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    with VideoReader(path) as reader:
        count = sum(1 for _ in reader.frames())
        assert 10 < count < 4 * FPS
        assert reader.counts.truncated


def test_a_whole_file_is_not_called_truncated(walk: Path) -> None:
    with VideoReader(walk) as reader:
        list(reader.frames())
        assert not reader.counts.truncated
        assert reader.counts.damaged == 0


def test_damage_in_the_middle_is_survived_and_counted(tmp_path: Path, walk: Path) -> None:
    data = bytearray(walk.read_bytes())
    rng = random.Random(3)
    start = data.find(b"mdat") + 3000
    for position in rng.sample(range(start, start + (len(data) - start) // 2), 400):
        data[position] ^= 0xFF
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with VideoReader(path) as reader:
        times = [frame.pts_s for frame in reader.frames()]
        assert times
        assert all(b > a for a, b in pairwise(times))
        assert reader.counts.damaged > 0


def test_no_damage_raises_anything_but_a_video_error(tmp_path: Path, walk: Path) -> None:
    whole = walk.read_bytes()
    for seed in range(25):
        rng = random.Random(seed)
        data = bytearray(whole[: rng.randrange(1, len(whole))] if seed % 2 else whole)
        for _ in range(rng.randrange(200)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(data)
        try:
            for frame in frames(path):
                assert frame.image.shape[2] == 3
        except VideoError:
            pass


@given(st.floats(0.5, 60), st.sampled_from([1.0, 2.0, 5.0, 10.0, 25.0]), st.integers(0, 1000))
def test_sampling_is_even_in_time(rate: float, wanted: float, first: int) -> None:
    sampler = FrameSampler(wanted)
    times = [(first + index) / rate for index in range(300)]
    taken = [t for t in times if sampler.wants(t)]
    assert taken[0] == times[0]
    if rate <= wanted:
        # Slower than wanted: at most every slot has a frame, so none is left out (but for rounding at equality).
        assert len(taken) >= len(times) - 1 or rate > 0.99 * wanted
    else:
        slots = {int(np.floor(t * wanted + 1e-6)) for t in times}
        assert len(taken) == len(slots)


def test_sampling_takes_every_second_of_twenty_frames() -> None:
    sampler = FrameSampler(10)
    assert [index for index in range(40) if sampler.wants(index / 20)] == list(range(0, 40, 2))
