from __future__ import annotations

import numpy as np
import pytest

from calr.neighbour_graph import centre_per_camera
from calr.site_evaluation import evaluate_site


def l2_normalised(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_centring_removes_a_camera_offset():
    """People differ by direction, cameras add a large offset: raw search fails, centred search is perfect."""
    rng = np.random.default_rng(2)
    people = rng.normal(size=(12, 32))
    vectors = np.concatenate([people + 6 * rng.normal(size=32) for _ in range(3)])
    vectors = l2_normalised((vectors + rng.normal(size=vectors.shape) * 0.6).astype(np.float32))
    cameras, identities = np.repeat(np.arange(3), 12), np.tile(np.arange(12), 3)
    raw = evaluate_site(vectors, cameras, identities)
    centred = evaluate_site(centre_per_camera(vectors, cameras), cameras, identities)
    assert centred.mAP > raw.mAP + 0.1
    assert centred.queries == 36


def test_nobody_is_a_distractor_and_no_query():
    vectors = l2_normalised(np.array([[1, 0], [0.6, 0.8], [1, 0.05]], np.float32))
    found = evaluate_site(vectors, np.array([0, 1, 1]), np.array([5, 5, -1]))
    assert found.queries == 2  # both tracklets of person 5
    assert found.rank1 == 0.5  # the tracklet of nobody comes before person 5 for the first of them


def test_a_site_without_any_person_in_two_cameras_is_unmeasured():
    with pytest.raises(ValueError, match="two cameras"):
        evaluate_site(np.eye(2, dtype=np.float32), np.array([0, 1]), np.array([1, 2]))
