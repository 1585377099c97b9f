"""calr.calibration: what is fitted without labels holds for people that it was not fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calr.calibration import (
    HITS,
    fit_calibration,
    fit_sigmoid,
    look_alike_ranks,
    matches_in_other_cameras,
    sightings_per_camera,
)
from calr.reliability import Sightings, judge_matches
from models.matching.calibration import LookAlikes
from tests.calr.look_alike_people import found_clusters, look_alike_people


@pytest.mark.parametrize("noise", [0.9, 1.1])
def test_probabilities_fitted_without_labels_hold_for_other_people(noise: float) -> None:
    known, new = look_alike_people(120, 1, noise=noise), look_alike_people(120, 2, noise=noise)
    calibration = fit_calibration(known.vectors, known.cameras, found_clusters(known, 4))
    assert calibration is not None
    judged = judge_matches(calibration, new, new)
    assert judged is not None
    assert judged.expected_calibration_error <= 0.05
    assert judged.brier_skill > 0.5


def test_more_people_of_the_same_kind_make_the_same_cosine_less_likely() -> None:
    known = look_alike_people(120, 1)
    calibration = fit_calibration(known.vectors, known.cameras, found_clusters(known, 2))
    assert calibration is not None
    more = look_alike_people(600, 1)
    query, match = known.vectors[:1], known.vectors[2:3]
    said = []
    for gallery in (known, more):
        cosines = np.sort((gallery.vectors @ query[0])[gallery.cameras == 1])[::-1]
        level = calibration.look_alikes.levels(cosines, np.ones(len(cosines), np.int64), np.array([1]))
        said.append(float(calibration.probability(query @ match[0], level)[0]))
    assert said[1] < said[0]


def test_the_same_question_has_the_same_answer() -> None:
    known = look_alike_people(60, 3)
    epochs = found_clusters(known, 2)
    assert fit_calibration(known.vectors, known.cameras, epochs) == fit_calibration(
        known.vectors, known.cameras, epochs
    )


def test_where_too_little_is_known_nothing_is_fitted() -> None:
    known = look_alike_people(60, 1)
    epochs, nobody = found_clusters(known, 2), np.full(len(known.vectors), -1)
    assert fit_calibration(known.vectors, known.cameras, epochs) is not None
    assert fit_calibration(known.vectors, np.zeros_like(known.cameras), epochs) is None, "one camera"
    assert fit_calibration(known.vectors, known.cameras, []) is None, "no epoch"
    assert fit_calibration(known.vectors, known.cameras, [nobody]) is None, "no cluster"
    few = slice(0, 12)
    assert fit_calibration(known.vectors[few], known.cameras[few], [known.identities[few]]) is None, "few matches"
    assert fit_calibration(known.vectors[:0], known.cameras[:0], [nobody[:0]]) is None, "nothing"


def test_clusters_that_say_the_opposite_are_not_believed() -> None:
    known = look_alike_people(60, 1)
    found = matches_in_other_cameras(LookAlikes(4, 12, 72, 1.0), *[known.vectors, known.cameras] * 2)
    unlike = known.vectors @ -known.vectors[0]
    assert len(found.query) == HITS * len(known.vectors)
    halves = (unlike > np.median(unlike)).astype(np.int64)
    opposite = np.where(known.cameras == 0, halves, 1 - halves)
    opposite = np.where(known.cameras == 2, 2 + halves, opposite)
    assert fit_calibration(known.vectors, known.cameras, [opposite]) is None


def test_matches_are_a_full_sort_of_the_other_cameras() -> None:
    people = look_alike_people(20, 5, cameras=2)
    queries = look_alike_people(7, 6, cameras=2)
    ranks = LookAlikes(2, 4, 30, 1.0)
    found = matches_in_other_cameras(ranks, queries.vectors, queries.cameras, people.vectors, people.cameras, chunk=4)
    for query in range(len(queries.vectors)):
        cosines = people.vectors @ queries.vectors[query]
        order = np.argsort(-cosines, kind="stable")
        others = order[people.cameras[order] != queries.cameras[query]][:HITS]
        here = found.query == query
        assert found.match[here].tolist() == others.tolist()
        assert found.cosine[here] == pytest.approx(cosines[others], abs=1e-6)
        camera = 1 - queries.cameras[query]
        seen = [row for row in order[:30] if people.cameras[row] == camera]
        assert found.level[here] == pytest.approx(np.full(HITS, cosines[seen[1:4]].mean()), abs=1e-6)


def test_a_gallery_smaller_than_an_answer_gives_what_there_is() -> None:
    people = look_alike_people(2, 1, cameras=2, sightings=1)
    found = matches_in_other_cameras(LookAlikes(1, 2, 9, 1.0), *[people.vectors, people.cameras] * 2)
    assert np.bincount(found.query).tolist() == [2, 2, 2, 2]
    assert (people.cameras[found.match] != people.cameras[found.query]).all()


def test_sightings_are_counted_inside_a_cluster_and_camera() -> None:
    cameras = np.array([0, 0, 0, 1, 1, 0])
    assert sightings_per_camera(cameras, [np.array([5, 5, 5, 5, 7, -1])]) == pytest.approx((3 * 3 + 1 + 1) / 5)
    assert sightings_per_camera(cameras, [np.full(6, -1)]) == 1


def test_ranks_keep_their_order_whatever_was_found() -> None:
    cameras = np.tile(np.arange(3), 4000)
    one_cluster, alone = np.zeros(len(cameras), np.int64), np.arange(len(cameras))
    assert look_alike_ranks(cameras, [one_cluster]) == LookAlikes(2000, 2000, 2000, 4000.0)
    assert look_alike_ranks(cameras, [alone]) == LookAlikes(2, 6, 36, 4000.0)


def test_a_sigmoid_is_found_again() -> None:
    draw = np.random.default_rng(0)
    margin = draw.normal(0.1, 0.1, 40_000)
    truth = 1 / (1 + np.exp(-(20 * margin - 2)))
    slope, intercept = fit_sigmoid(margin, (draw.random(len(margin)) < truth).astype(float), 40_000)
    assert slope == pytest.approx(20, rel=0.05)
    assert intercept == pytest.approx(-2, rel=0.05)
    assert fit_sigmoid(margin, truth, 40_000)[0] == pytest.approx(20, rel=0.01), "shares as well as counts"


def test_matches_that_part_cleanly_do_not_make_a_step() -> None:
    margin = np.concatenate([np.linspace(0, 0.1, 80), np.linspace(0.3, 0.4, 20)])
    right = (margin > 0.2).astype(float)
    surest = []
    for queries in (10, 1000):
        slope, intercept = fit_sigmoid(margin, right, queries)
        surest.append(1 / (1 + np.exp(-(slope * 0.4 + intercept))))
    assert surest[0] < 0.95 < surest[1] < 1, "the fewer the queries, the less is claimed"


@pytest.mark.parametrize("kept", [0.5, 0.25])
def test_in_a_gallery_that_shrank_nothing_is_claimed_that_does_not_hold(kept: float) -> None:
    known, new = (look_alike_people(150, seed, sightings=4, noise=1.1) for seed in (1, 2))
    calibration = fit_calibration(known.vectors, known.cameras, found_clusters(known, 3))
    assert calibration is not None
    some = np.random.default_rng(0).random(len(new.vectors)) < kept
    left = Sightings(new.vectors[some], new.cameras[some], new.identities[some])
    judged, naive = (
        judge_matches(replace(calibration, look_alikes=ranks), new, left)
        for ranks in (calibration.look_alikes, replace(calibration.look_alikes, camera_size=1.0))
    )
    assert judged is not None and naive is not None
    assert np.mean(judged.said) - judged.base_rate < 0.06
    assert np.mean(naive.said) - naive.base_rate > np.mean(judged.said) - judged.base_rate + 0.05
