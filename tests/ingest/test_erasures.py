"""Erasures are understood or refused, never ignored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ingest.erasures import Erasure, ErasureError, erased, load_erasures

BOXES = np.asarray([[0, 0, 10, 20], [100, 100, 120, 160]], np.float32)


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
        "[]",
        "{}",
        '{"schema": 1}',
        '{"schema": 2, "video_sha256": "a", "start_pts_s": 0, "end_pts_s": 1, "box": null}',
        '{"schema": 1, "video_sha256": "a", "start_pts_s": 0, "end_pts_s": 1, "box": [1]}',
        '{"schema": 1, "video_sha256": "a", "start_pts_s": NaN, "end_pts_s": 1, "box": null}',
    ],
)
def test_a_line_that_is_none_stops_everything(tmp_path: Path, line: str) -> None:
    path = tmp_path / "erasures.jsonl"
    path.write_text(json.dumps(Erasure("a", 0, 1, None).to_json()) + "\n" + line)
    with pytest.raises(ErasureError, match="line 2"):
        load_erasures(path)


def test_time_and_place() -> None:
    everything = [Erasure("a", 1.0, 2.0, None)]
    assert erased(everything, 1.5, BOXES).tolist() == [True, True]
    assert erased(everything, 1.0, BOXES).tolist() == [True, True]
    assert erased(everything, 2.1, BOXES).tolist() == [False, False]
    corner = [Erasure("a", 0, 9, (0, 0, 10, 12))]
    assert erased(corner, 5, BOXES).tolist() == [True, False]
    assert erased([Erasure("a", 0, 9, (0, 0, 4, 20))], 5, BOXES).tolist() == [False, False]  # covers 40 %
    assert erased([], 5, BOXES).tolist() == [False, False]
