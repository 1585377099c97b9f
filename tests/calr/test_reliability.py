"""calr.reliability: known errors of known probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from calr.__main__ import app
from calr.reliability import Sightings, draw_reliability, judge_matches, read_curves, reliability
from models.matching.calibration import Calibration, LookAlikes


def test_probabilities_that_come_true_have_a_small_error_and_skill() -> None:
    draw = np.random.default_rng(0)
    said = draw.beta(0.5, 0.8, 60_000)
    found = reliability(said, draw.random(len(said)) < said)
    assert found is not None
    assert found.expected_calibration_error < 0.01
    assert found.brier_skill > 0.4
    assert found.matches == 60_000 and len(found.said) == 15


def test_an_error_by_hand() -> None:
    said = np.array([0.2, 0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9])
    right = np.array([False, True, False, False, True, True, False, False])
    found = reliability(said, right, bins=2)
    assert found is not None
    assert found.expected_calibration_error == pytest.approx((abs(0.2 - 0.25) + abs(0.9 - 0.5)) / 2)
    assert found.said == pytest.approx([0.2, 0.9]) and found.true == pytest.approx([0.25, 0.5])
    brier = (3 * 0.2**2 + 0.8**2 + 2 * 0.1**2 + 2 * 0.9**2) / 8
    assert found.brier_skill == pytest.approx(1 - brier / (0.375 * 0.625))


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_saying_the_base_rate_is_no_skill_and_no_error_over_all(right: list[bool]) -> None:
    truth = np.array(right)
    found = reliability(np.full(len(truth), truth.mean()), truth, bins=1)
    if truth.all() or not truth.any():
        assert found is None
    else:
        assert found is not None
        assert found.brier_skill == pytest.approx(0, abs=1e-9)
        assert found.expected_calibration_error == pytest.approx(0, abs=1e-9)


def test_nobody_is_never_a_right_match() -> None:
    vectors = np.eye(4, 8, dtype=np.float32)[[0, 0, 1, 1, 2, 2, 3, 3]]
    people = Sightings(vectors, np.arange(8) % 2, np.array([-1, -1, 1, 1, 2, 2, 3, 3]))
    found = judge_matches(Calibration(10.0, -5.0, LookAlikes(2, 3, 8, 1.0), 1, 0.5), people, people)
    assert found is not None
    assert found.matches == 8 * 4 and found.base_rate == pytest.approx(6 / 32)


def test_curves_are_drawn_from_what_the_commands_wrote(tmp_path: Path) -> None:
    judged = reliability(np.linspace(0, 1, 100), np.linspace(0, 1, 100) > 0.4)
    assert judged is not None
    good, other = tmp_path / "site.json", tmp_path / "other.json"
    good.write_text(json.dumps({"calibration": judged.as_dict()}))
    assert read_curves([good]) == {"site": judged}
    result = CliRunner().invoke(app, ["reliability", str(good), "--out", str(tmp_path / "curve.png")])
    assert result.exit_code == 0, result.stderr
    picture = cv2.imread(str(tmp_path / "curve.png"))
    assert picture is not None and picture.std() > 5
    assert draw_reliability({"one": judged, "two": judged})[:4] == b"\x89PNG"
    for content in ("{", '{"calibration": null}', "[]", '{"calibration": {"said": []}}'):
        other.write_text(content)
        result = CliRunner().invoke(app, ["reliability", str(good), str(other), "--out", str(tmp_path / "c.png")])
        assert result.exit_code == 1 and "other.json: holds no judged calibration" in result.stderr
