"""What a mask covers is black, however its polygons lie."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.mask import Polygon, black_out

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
