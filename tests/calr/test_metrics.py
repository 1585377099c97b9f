"""mAP and CMC against the plainest possible reading of their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calr.metrics import evaluate_ranking, other_cameras_only, same_identity_same_camera_excluded


def plain_reference(distance, positive, valid):
    """The definition, one query and one gallery entry at a time."""
    average_precisions, first = [], []
    for q in range(len(distance)):
        entries = [(float(distance[q][g]), g) for g in range(len(distance[q])) if valid[q][g]]
        entries.sort()
        hits, total, rank_of_first = 0, 0.0, None
        for rank, (_, g) in enumerate(entries, start=1):
            if positive[q][g]:
                hits += 1
                total += hits / rank
                rank_of_first = rank_of_first or rank
        if hits:
            average_precisions.append(total / hits)
            first.append(rank_of_first)
    count = len(first)
    return (
        sum(average_precisions) / count,
        *(sum(rank <= k for rank in first) / count for k in (1, 5, 10)),
        count,
    )


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 40), st.integers(1, 5), st.booleans())
def test_agrees_with_the_plain_reference(seed, queries, gallery, people, ties):
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, 4, (queries, gallery)) / 4 if ties else rng.random((queries, gallery))
    query_ids, gallery_ids = rng.integers(0, people, queries), rng.integers(0, people, gallery)
    positive, valid = same_identity_same_camera_excluded(
        query_ids, rng.integers(0, 3, queries), gallery_ids, rng.integers(0, 3, gallery)
    )
    if not (positive & valid).any():
        with pytest.raises(ValueError, match="no query has a positive"):
            evaluate_ranking(distance, positive, valid)
        return
    found = evaluate_ranking(distance, positive, valid)
    expected = plain_reference(distance, positive, valid)
    assert (found.mAP, found.rank1, found.rank5, found.rank10) == pytest.approx(expected[:4], abs=1e-12)
    assert (found.queries, found.gallery) == (expected[4], gallery)


def test_worked_by_hand():
    """Positives at ranks 1 and 3 of four: AP = (1/1 + 2/3) / 2."""
    found = evaluate_ranking(
        np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([[True, False, True, False]]), np.ones((1, 4), bool)
    )
    assert found.mAP == pytest.approx((1 + 2 / 3) / 2)
    assert found.rank1 == 1.0


def test_same_identity_and_camera_is_taken_out_but_a_stranger_of_that_camera_is_not():
    positive, valid = same_identity_same_camera_excluded(
        np.array([7]), np.array([1]), np.array([7, 7, 8]), np.array([1, 2, 1])
    )
    assert valid.tolist() == [[False, True, True]]
    assert positive.tolist() == [[True, True, False]]


def test_site_protocol_asks_other_cameras_only_and_nobody_is_never_right():
    positive, valid = other_cameras_only(np.array([3, 3, -1, -1]), np.array([0, 1, 0, 1]))
    assert valid.tolist() == [[False, True, False, True], [True, False, True, False]] * 2
    assert positive[0].tolist() == [False, True, False, False]
    assert not positive[2:].any()


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        evaluate_ranking(np.zeros((1, 2)), np.zeros((1, 3), bool), np.ones((1, 2), bool))
