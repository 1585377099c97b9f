"""The label-free score must fall when people are mixed up and when cameras are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from calr.label_free import label_free_score


def l2_normalised(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def site(noise: float, camera_offset: float, *, seconds: float = 4.0, people: int = 15, cameras: int = 2):
    rng = np.random.default_rng(3)
    identity = rng.normal(size=(people, 24))
    offset = rng.normal(size=(cameras, 24)) * camera_offset
    rows, owner, times = [], [], []
    for camera in range(cameras):
        for person in range(people):
            for step in range(6):
                rows.append(identity[person] + offset[camera] + rng.normal(size=24) * noise)
                owner.append(camera * people + person)
                times.append(step * seconds / 5)
    return (
        l2_normalised(np.asarray(rows, np.float32)),
        np.asarray(owner),
        np.asarray(times),
        np.repeat(np.arange(cameras), people),
    )


def test_good_features_score_near_one():
    found = label_free_score(*site(noise=0.05, camera_offset=0.0))
    assert found.tracklet_consistency == pytest.approx(1.0)
    assert found.mutual_neighbours == pytest.approx(1.0)
    assert found.camera_predictability < 0.35
    assert (found.tracklets_used, found.tracklets_too_short) == (30, 0)


def test_mixed_up_people_lower_consistency():
    assert label_free_score(*site(noise=3.0, camera_offset=0.0)).tracklet_consistency < 0.8


def test_camera_bias_is_seen():
    clean, biased = label_free_score(*site(0.3, 0.0)), label_free_score(*site(0.3, 4.0))
    assert biased.camera_predictability > 0.95 > clean.camera_predictability + 0.3
    assert biased.mutual_neighbours < clean.mutual_neighbours
    assert biased.score < clean.score


def test_short_tracklets_are_counted_and_one_camera_has_no_cross_camera_part():
    found = label_free_score(*site(0.1, 0.0, seconds=0.5, cameras=1))
    assert (found.tracklets_used, found.tracklets_too_short) == (0, 15)
    assert found.tracklet_consistency is None
    assert found.camera_predictability is None
    assert found.mutual_neighbours is None
    assert found.score is None


def test_silhouette_follows_the_clusters():
    embeddings, owner, times, cameras = site(0.1, 0.0)
    true = np.tile(np.arange(15), 2)
    shuffled = np.random.default_rng(0).permutation(true)
    good = label_free_score(embeddings, owner, times, cameras, true).silhouette
    bad = label_free_score(embeddings, owner, times, cameras, shuffled).silhouette
    assert good > 0.8 > bad
