"""The quality formula."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.crop_quality import alone, sharpness, view, whole

FRAME = (640, 480)
RNG = np.random.default_rng(0)
TEXTURE = RNG.integers(0, 255, (300, 150, 3), dtype=np.uint8)
boxes = st.tuples(st.floats(0, 600), st.floats(0, 400), st.floats(4, 40), st.floats(4, 80)).map(
    lambda b: np.asarray([b[0], b[1], b[0] + b[2], b[1] + b[3]], np.float32)
)
NO_OTHERS = np.zeros((0, 4), np.float32)


def box(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.asarray([x1, y1, x2, y2], np.float32)


@given(boxes, st.lists(boxes, max_size=4), st.floats(0, 1))
def test_between_zero_and_one_and_never_more_with_more_company(one, others, score) -> None:
    crop = TEXTURE[: max(1, int(one[3] - one[1])), : max(1, int(one[2] - one[0]))]
    company = np.asarray(others, np.float32).reshape(-1, 4)
    quality = view(crop, one, company, FRAME).quality(score)
    assert 0 <= quality <= 1
    assert quality <= view(crop, one, NO_OTHERS, FRAME).quality(score) + 1e-9


def test_taller_sharper_surer_whole_and_alone_is_better() -> None:
    here = box(100, 100, 150, 200)
    crop = TEXTURE[:100, :50]
    best = view(crop, here, NO_OTHERS, FRAME).quality(0.9)
    assert view(cv2.GaussianBlur(crop, (9, 9), 3), here, NO_OTHERS, FRAME).quality(0.9) < best
    assert view(crop[:60, :30], box(100, 100, 130, 160), NO_OTHERS, FRAME).quality(0.9) < best
    assert view(crop, here, NO_OTHERS, FRAME).quality(0.4) < best
    assert view(crop, box(0, 100, 50, 200), NO_OTHERS, FRAME).quality(0.9) == pytest.approx(best / 2, rel=1e-6)
    assert view(crop, here, box(120, 110, 170, 230)[None], FRAME).quality(0.9) < best


def test_whole() -> None:
    assert whole(box(10, 10, 50, 100), FRAME) == 1
    assert whole(box(0, 10, 50, 100), FRAME) == 0.5
    assert whole(box(600, 400, 640, 480), FRAME) == 0.25


def test_alone() -> None:
    here = box(0, 0, 10, 10)
    assert alone(here, NO_OTHERS) == 1
    assert alone(here, box(20, 0, 30, 10)[None]) == 1
    assert alone(here, box(5, 0, 15, 20)[None]) == pytest.approx(0.5)  # stands in front
    assert alone(here, box(5, 0, 15, 10)[None]) == pytest.approx(0.75)  # does not
    assert alone(here, box(0, 0, 10, 11)[None]) == 0


def test_sharpness_of_nothing_is_zero_and_does_not_depend_much_on_size() -> None:
    assert sharpness(np.full((80, 40, 3), 127, np.uint8)) == 0
    picture = cv2.resize(TEXTURE[:32, :16], (64, 128), interpolation=cv2.INTER_CUBIC)
    larger = cv2.resize(picture, (128, 256), interpolation=cv2.INTER_CUBIC)
    assert sharpness(larger) == pytest.approx(sharpness(picture), rel=0.2)


def test_what_a_crop_is_refused_for() -> None:
    sharp = np.ascontiguousarray(TEXTURE[:100, :50])
    here = box(100, 100, 150, 200)
    assert view(sharp, here, NO_OTHERS, FRAME).fault is None
    assert view(sharp, box(0, 100, 50, 200), NO_OTHERS, FRAME).fault is None  # one border is everyday life
    assert view(sharp, box(0, 380, 50, 480), NO_OTHERS, FRAME).fault == "cut off"
    assert view(sharp, here, box(105, 100, 160, 220)[None], FRAME).fault == "covered"
    assert view(np.full((100, 50, 3), 127, np.uint8), here, NO_OTHERS, FRAME).fault == "blurred"
