"""Erasures are understood or refused, never ignored."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.erasures import ErasedRegions, Erasure, ErasureError, add_erasures, load_erasures

BOXES = np.asarray([[0, 0, 10, 20], [100, 100, 120, 160]], np.float32)


def line(**changes: object) -> str:
    return json.dumps({**Erasure("a" * 64, 0, 1, None).to_json(), **changes})


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    assert load_erasures(path) == []
    entries = [Erasure("a" * 64, 1.0, 2.5, (0, 0, 10, 10)), Erasure("b" * 64, 0.0, 1e9, None)]
    path.write_text("".join(json.dumps(entry.to_json()) + "\n" for entry in entries) + "\n")
    assert load_erasures(path) == entries


@pytest.mark.parametrize(
    "line",
    [
        "{",
        line(video_sha256="ABCDEF0123456789" * 4),
        line(video_sha256="0123456789abcdef"),
        line(start_pts_s=2.0),
        line(box=[10, 0, 0, 10]),
        line(box=[0, 10, 10, 0]),
        "[]",
        "{}",
        '{"schema": 1}',
        line(schema=2),
        line(box=[1]),
        line(start_pts_s=float("nan")),
    ],
)
def test_a_line_that_is_none_stops_everything(tmp_path: Path, line: str) -> None:
    path = tmp_path / "erasures.jsonl"
    path.write_text(json.dumps(Erasure("a" * 64, 0, 1, None).to_json()) + "\n" + line + "\n")
    with pytest.raises(ErasureError, match="line 2"):
        load_erasures(path)


LINES = [Erasure("a" * 64, float(start), start + 1.0, None) for start in range(40)]


def test_a_line_that_was_not_written_to_its_end_is_none(tmp_path: Path) -> None:
    """Whoever was killed while they wrote it was never told that it is there."""
    path = tmp_path / "erasures.jsonl"
    add_erasures(path, LINES[:2])
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for length in range(first + 1, len(content) + 1):
        path.write_bytes(content[:length])
        known = LINES[: 2 if length >= len(content) - 1 else 1]
        assert load_erasures(path) == known
        add_erasures(path, LINES[2:3])
        assert load_erasures(path) == [*known, LINES[2]]
    path.write_bytes(content[: first - 9] + b"\n" + content[first:])
    with pytest.raises(ErasureError, match="line 1"):
        load_erasures(path)
    path.write_bytes(content[:-9] + b"\n")
    with pytest.raises(ErasureError, match="line 2"):
        load_erasures(path)


def test_a_disk_that_is_full_takes_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    add_erasures(path, LINES[:1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError):
            add_erasures(path, LINES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_erasures(path) == LINES[:1]
    add_erasures(path, LINES[1:])
    assert load_erasures(path) == LINES


def test_several_processes_add_at_once(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(add_erasures, [path] * len(LINES), ([line] for line in LINES)))
    assert sorted(load_erasures(path), key=lambda line: line.start_pts_s) == LINES


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "erasures.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ErasureError, match=r"erasures\.jsonl: cannot be read"):
        load_erasures(tmp_path / "erasures.jsonl")


def erased(erasures: list[Erasure], pts_s: float, boxes: np.ndarray) -> np.ndarray:
    """One erasure and one box after the other."""
    gone = np.zeros(len(boxes), bool)
    for erasure in erasures:
        for row, (left, top, right, bottom) in enumerate(boxes.tolist()):
            x1, y1, x2, y2 = erasure.box or (left, top, right, bottom)
            inside = max(0.0, min(right, x2) - max(left, x1)) * max(0.0, min(bottom, y2) - max(top, y1))
            if erasure.start_pts_s <= pts_s <= erasure.end_pts_s:
                gone[row] |= inside >= 0.5 * (right - left) * (bottom - top)
    return gone


def cover(erasures: list[Erasure], pts_s: float, boxes: np.ndarray) -> np.ndarray:
    return ErasedRegions(erasures).cover(pts_s, boxes)


@given(st.data())
def test_many_erasures_at_once_are_one_after_the_other(data: st.DataObject) -> None:
    number = st.integers(0, 8).map(float)
    boxes = st.tuples(number, number, st.integers(1, 8), st.integers(1, 8)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    )
    lines = st.builds(
        lambda start, length, box: Erasure("a" * 64, start, start + length, box), number, number, st.none() | boxes
    )
    erasures = data.draw(st.lists(lines, max_size=5))
    shown = np.array(data.draw(st.lists(boxes, max_size=4)), np.float32).reshape(-1, 4)
    pts_s = data.draw(number)
    assert cover(erasures, pts_s, shown).tolist() == erased(erasures, pts_s, shown).tolist()
    whole = any(line.box is None and line.start_pts_s <= pts_s <= line.end_pts_s for line in erasures)
    assert ErasedRegions(erasures).frame_between(pts_s, pts_s) == whole


def test_time_and_place() -> None:
    everything = [Erasure("a", 1.0, 2.0, None)]
    assert cover(everything, 1.5, BOXES).tolist() == [True, True]
    assert cover(everything, 1.0, BOXES).tolist() == [True, True]
    assert cover(everything, 2.1, BOXES).tolist() == [False, False]
    corner = [Erasure("a", 0, 9, (0, 0, 10, 12))]
    assert cover(corner, 5, BOXES).tolist() == [True, False]
    assert cover([Erasure("a", 0, 9, (0, 0, 4, 20))], 5, BOXES).tolist() == [False, False]  # covers 40 %
    assert cover([], 5, BOXES).tolist() == [False, False]


def test_whole_numbers_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    erasure = Erasure("0" * 64, 0, 3, (0, 0, 9, 9))
    add_erasures(path, [erasure])
    assert load_erasures(path) == [erasure]
