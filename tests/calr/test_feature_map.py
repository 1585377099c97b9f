"""Maps of features: one crop a node, the figure in the title is counted, and any number of cameras can be drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calr.feature_map import MOST_POINTS, Named, draw_feature_maps, same_camera_neighbours, sample_nodes


def test_one_crop_of_each_node_and_never_too_many() -> None:
    assert sample_nodes(np.array([2, 2, 0, 0, 1, 2])).tolist() == [0, 2, 4]
    node = np.repeat(np.arange(3 * MOST_POINTS), 2)
    chosen = sample_nodes(node)
    assert len(chosen) == len(np.unique(node[chosen])) == MOST_POINTS
    np.testing.assert_array_equal(chosen, sample_nodes(node))


def test_neighbours_of_the_same_camera_are_counted() -> None:
    angle = np.array([0.0, 0.1, 2.0, 2.05, 4.0])
    features = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    # Pairs 0-1 (cameras 0, 0) and 2-3 (cameras 0, 1); the last one's nearest is number 3, of its camera.
    assert same_camera_neighbours(features, np.array([0, 0, 0, 1, 1])) == pytest.approx(3 / 5)


@pytest.mark.parametrize(("crops", "cameras"), [(4, 1), (60, 2), (60, 30)])
def test_a_picture_comes_out(crops: int, cameras: int) -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(crops, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    camera = np.arange(crops) % cameras
    names = [f"cam{i}" for i in range(cameras)]
    png = draw_feature_maps([Named("before", features), Named("after", features[::-1].copy())], camera, names)
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape[1] > 1.8 * picture.shape[0]
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3
    assert png == draw_feature_maps([Named("before", features), Named("after", features[::-1].copy())], camera, names)
