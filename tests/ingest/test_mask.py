"""What a mask covers is black, however its polygons lie."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.mask import Polygon, black_out, stands_in

LEFT: Polygon = [(0.0, 0.0), (0.6, 0.0), (0.6, 1.0), (0.0, 1.0)]
RIGHT: Polygon = [(0.4, 0.0), (1.0, 0.0), (1.0, 1.0), (0.4, 1.0)]


@pytest.mark.parametrize("mask", [[LEFT, RIGHT], [LEFT, LEFT, RIGHT], [RIGHT, LEFT, RIGHT]])
def test_overlapping_polygons_cover_what_each_covers(mask: list[Polygon]) -> None:
    assert not black_out(np.full((50, 50, 3), 200, np.uint8), mask).any()


def test_the_picture_given_stays_and_the_rest_of_it_is_seen() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    masked = black_out(image, [LEFT])
    assert (image == 200).all()
    assert not masked[:, :30].any()
    assert (masked[:, 32:] == 200).all()
    assert black_out(image, []) is image


def test_who_stands_in_a_zone() -> None:
    zone = [(0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0)]
    boxes = np.asarray([[10, 10, 20, 60], [10, 10, 20, 40], [60, 10, 80, 60], [45, 0, 55, 50]], np.float32)
    assert stands_in(boxes, [zone], (100, 100)).tolist() == [True, False, False, True]  # the last on the corner
    assert stands_in(boxes, [], (100, 100)).tolist() == [False] * 4
    assert stands_in(boxes[:0], [zone], (100, 100)).shape == (0,)
