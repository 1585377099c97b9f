"""Erasures are understood or refused, never ignored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ingest.erasures import Erasure, ErasureError, erased, load_erasures

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
    path.write_text(json.dumps(Erasure("a" * 64, 0, 1, None).to_json()) + "\n" + line)
    with pytest.raises(ErasureError, match="line 2"):
        load_erasures(path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "erasures.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ErasureError, match=r"erasures\.jsonl: cannot be read"):
        load_erasures(tmp_path / "erasures.jsonl")


def test_time_and_place() -> None:
    everything = [Erasure("a", 1.0, 2.0, None)]
    assert erased(everything, 1.5, BOXES).tolist() == [True, True]
    assert erased(everything, 1.0, BOXES).tolist() == [True, True]
    assert erased(everything, 2.1, BOXES).tolist() == [False, False]
    corner = [Erasure("a", 0, 9, (0, 0, 10, 12))]
    assert erased(corner, 5, BOXES).tolist() == [True, False]
    assert erased([Erasure("a", 0, 9, (0, 0, 4, 20))], 5, BOXES).tolist() == [False, False]  # covers 40 %
    assert erased([], 5, BOXES).tolist() == [False, False]
