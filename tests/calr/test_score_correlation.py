"""The label-free score against the truth over the epochs of a run: tracklets, counting, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calr.datasets import Split
from calr.score_correlation import LONGEST_GAP, PARTS, emulated_tracklets, rank_correlation
from tests.calr.test_benchmark import invoke


def split_of(*names: str) -> Split:
    fields = [(int(name[:4]), int(name[6])) for name in names]
    return Split([Path(name) for name in names], *(np.array(column, np.int64) for column in zip(*fields, strict=True)))


def test_tracklets_end_with_person_camera_sequence_and_a_long_gap() -> None:
    tracklets = emulated_tracklets(
        split_of(
            "0002_c1s1_000600_00.jpg",  # the same walk as the next but one, later
            "0001_c1s1_000100_00.jpg",
            "0002_c1s1_000550_00.jpg",
            "0002_c1s2_000560_00.jpg",
            "0002_c2s1_000560_00.jpg",
            f"0002_c1s1_{601 + LONGEST_GAP:06d}_00.jpg",
        )
    )
    same = tracklets.of_image[:, None] == tracklets.of_image[None, :]
    assert np.argwhere(np.triu(same, 1)).tolist() == [[0, 2]]
    assert tracklets.time_s[0] - tracklets.time_s[2] == pytest.approx(2.0)
    assert tracklets.camera[tracklets.of_image].tolist() == [1, 1, 1, 1, 2, 1]


def test_names_without_frames_are_told() -> None:
    with pytest.raises(ValueError, match=r"1 file names tell no sequence and frame \(0002_c1_f7\.jpg\)"):
        emulated_tracklets(split_of("0001_c1s1_000100_00.jpg", "0002_c1_f7.jpg"))


def test_every_epoch_is_judged_both_ways(market: Path, tmp_path: Path) -> None:
    code, out, err = invoke(market, tmp_path, "--judge-epochs")
    assert code == 0, err
    line = json.loads(out)
    (file,) = (tmp_path / "runs").glob("*/score_correlation.json")
    found = json.loads(file.read_text())
    stages = [(model["stage"], model["epoch"]) for model in found["models"]]
    assert stages[0] == ("start", 0) and stages[-1] == ("inter", 3)
    assert len(stages) == 1 + line["epochs"] + 2
    assert found["models"][-1]["mAP"] == pytest.approx(line["mAP"], abs=0.02)
    assert set(line["score_correlation"]) == set(PARTS)


def test_rank_correlation_is_spearmans() -> None:
    models = [{"mAP": m, "a": a, "b": 0.5} for m, a in ((0.1, 3.0), (0.2, 9.0), (0.3, 8.0), (0.4, None), (0.5, 10.0))]
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 (1 + 1) / (4 (16 - 1)).
    assert rank_correlation(models, "a") == pytest.approx(0.8)
    assert rank_correlation(models, "b") is None
    assert rank_correlation([{"mAP": 0.1, "a": None}], "a") is None
