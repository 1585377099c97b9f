"""Judging against true boxes, compared with trying every assignment."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ingest.ground_truth import NOBODY, GroundTruthError, Judge, TrueBoxes, iou, load_ground_truth, match_boxes
from ingest.tracklet_linking import Linked

HEADER = "frame,person_id,x1,y1,x2,y2,visibility\n"


def iou_of_two(a, b) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def best_by_trying(found, true) -> tuple[int, float]:
    """Most matches, and of those the most overlap, over all one-to-one assignments."""
    few, many = (found, true) if len(found) <= len(true) else (true, found)
    best = (0, 0.0)
    for chosen in permutations(range(len(many)), len(few)):
        overlaps = [iou_of_two(few[i], many[j]) for i, j in enumerate(chosen)]
        good = [overlap for overlap in overlaps if overlap >= 0.5]
        best = max(best, (len(good), sum(good)))
    return best


def some_boxes(most: int):
    corner = arrays(np.float32, st.tuples(st.integers(0, most), st.just(2)), elements=st.integers(0, 12).map(float))
    return corner.map(lambda c: np.concatenate([c, c + np.float32([10, 20])], axis=1).astype(np.float32))


@settings(max_examples=80, deadline=None)
@given(some_boxes(5), some_boxes(5))
def test_matching_is_the_best_there_is(found, true) -> None:
    matched = match_boxes(found, true)
    pairs = [(i, j) for i, j in enumerate(matched.tolist()) if j >= 0]
    assert len({j for _, j in pairs}) == len(pairs)
    overlaps = [iou_of_two(found[i], true[j]) for i, j in pairs]
    assert all(overlap >= 0.5 - 1e-9 for overlap in overlaps)
    count, overlap = best_by_trying(found.astype(float), true.astype(float))
    assert len(pairs) == count
    assert sum(overlaps) == pytest.approx(overlap, abs=1e-6)


@given(some_boxes(4), some_boxes(4))
def test_iou(a, b) -> None:
    expected = [[iou_of_two(x.astype(float), y.astype(float)) for y in b] for x in a]
    np.testing.assert_allclose(iou(a, b), np.asarray(expected).reshape(len(a), len(b)), atol=1e-9)


def boxes(*corners: tuple[float, float], height: float = 60) -> np.ndarray:
    return np.asarray([[x, y, x + 20, y + height] for x, y in corners], np.float32).reshape(-1, 4)


def judge(person: list[int], true: np.ndarray, counted: list[bool]) -> Judge:
    return Judge({0: TrueBoxes(np.asarray(person), true, np.asarray(counted))}, "sha")


def test_hits_misses_and_wrong_ones() -> None:
    it = judge([1, 2], boxes((0, 0), (100, 0)), [True, True])
    it.detections(0, boxes((1, 1), (300, 0)))
    assert (it.hits, it.wrong, it.missed) == (1, 1, 1)
    it.detections(7, boxes((1, 1)))  # a frame in which nobody is
    assert (it.hits, it.wrong, it.missed) == (1, 2, 1)


def test_hidden_and_small_people_are_neither_and_so_are_their_detections() -> None:
    it = judge([1, 2], boxes((0, 0), (100, 0)), [True, False])
    it.detections(0, boxes((0, 0)))
    assert (it.hits, it.wrong, it.missed) == (1, 0, 0)
    it.detections(0, boxes((0, 0), (101, 0)))
    assert (it.hits, it.wrong, it.missed) == (2, 0, 0)
    it.detections(0, boxes((0, 0), (101, 0), (102, 0)))  # one excuse for one hidden person
    assert (it.hits, it.wrong, it.missed) == (3, 1, 0)


def test_a_detection_goes_to_the_one_who_counts() -> None:
    it = judge([1, 2], boxes((0, 0), (2, 0)), [True, False])
    it.detections(0, boxes((2, 0)))  # nearer to the hidden one
    assert (it.hits, it.wrong, it.missed) == (1, 0, 0)


def test_identity_is_that_of_most_boxes() -> None:
    truth = {i: TrueBoxes(np.asarray([5, 9]), boxes((0, 0), (100, 0)), np.asarray([True, False])) for i in range(10)}
    it = Judge(truth, "sha")

    def see(frame: int, tracklet: int, where: tuple[int, int], *, clear: bool = True) -> None:
        it.detections(frame, boxes(where))
        it.tracked(frame, [Linked(tracklet, 0, clear)], boxes(where))

    for i in range(10):
        see(i, 1, (0, 0) if i < 3 else (100, 0) if i < 8 else (300, 0))
    assert it.keep(1, clear=True) == {"person_id": 9, "purity": 0.5, "boxes": 10}
    see(0, 2, (300, 0))
    see(1, 2, (0, 0))
    assert it.keep(2, clear=True)["person_id"] == 5  # of equal votes the person's
    see(2, 2, (300, 0))
    assert it.keep(2, clear=True)["person_id"] == NOBODY
    assert it.keep(3, clear=True) == {"person_id": NOBODY, "purity": 0.0, "boxes": 0}
    for i in range(6):
        see(i, 4, (0, 0) if i < 2 else (100, 0), clear=i < 2)
    assert it.keep(4, clear=True) == {"person_id": 5, "purity": 1.0, "boxes": 2}
    assert it.keep(4, clear=False) == {"person_id": 9, "purity": 4 / 6, "boxes": 6}
    it.forget(4)
    assert it.keep(4, clear=False)["boxes"] == 0


def test_tracking_counts_what_is_covered_mixed_up_and_broken() -> None:
    """Person 1 stands left in frames 0 to 3 and 6 to 7 (two visits), person 2 right in all, hidden in frame 3."""
    truth = {
        frame: TrueBoxes(
            np.asarray([1, 2] if frame in (0, 1, 2, 3, 6, 7) else [2]),
            boxes((0, 0), (100, 0)) if frame in (0, 1, 2, 3, 6, 7) else boxes((100, 0)),
            np.asarray([True, frame != 3] if frame in (0, 1, 2, 3, 6, 7) else [True]),
        )
        for frame in range(8)
    }
    it = Judge(truth, "sha")
    left, right, nobody = (0, 0), (100, 0), (300, 0)
    ways = {  # tracklet: where its box is, frame by frame
        10: [left, left, nobody, right, None, None, None, None],  # goes over to the other person
        11: [None, None, None, None, None, None, left, left],  # the second visit: no fragment
        12: [right, right, None, None, right, None, None, None],
        13: [None, None, None, None, None, right, right, right],  # a fragment of the only visit
        14: [None, None, left, left, None, None, None, None],  # a fragment of the first visit
        15: [nobody, nobody, None, None, None, None, None, None],
        16: [None, None, right, None, None, None, None, None],  # not kept: counts nowhere
    }
    for frame in range(8):
        seen = [(tracklet, way[frame]) for tracklet, way in ways.items() if way[frame] is not None]
        found = boxes(*(where for _, where in seen))
        it.detections(frame, found)
        it.tracked(frame, [Linked(tracklet, row, True) for row, (tracklet, _) in enumerate(seen)], found)
    identities = {str(tracklet): it.keep(tracklet, clear=True) for tracklet in ways if tracklet != 16}
    assert [who["person_id"] for who in identities.values()] == [1, 1, 2, 2, 1, NOBODY]
    tracking = it.summary(identities)["tracking"]
    # 10: two of person 1; 11: two; 12: three; 13: three; 14: two. Of 13 boxes that count all but frame 2's of person 2.
    assert tracking == {"covered": 12, "switches": 1, "fragments": 2}


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "gt.csv"
    path.write_text(HEADER + "4,7,0,0,20,60,1\n4,8,50,0,70,60,0.49\n5,7,0,0,20,39.5,1.0\n")
    truth = load_ground_truth(path)
    assert truth[4].person.tolist() == [7, 8]
    assert truth[4].counted.tolist() == [True, False]
    assert truth[5].counted.tolist() == [False]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "frame,person\n1,2\n",
        HEADER + "1,2,3\n",
        HEADER + "1,2,0,0,x,1,1\n",
        HEADER + "1,2,9,0,3,1,1\n",
        HEADER + "1,2,0,0,nan,1,1\n",
        HEADER + "-1,2,0,0,1,1,1\n",
        HEADER + "1,-2,0,0,1,1,1\n",
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gt.csv"
    path.write_text(text)
    with pytest.raises(GroundTruthError, match=r"gt\.csv"):
        load_ground_truth(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GroundTruthError, match="cannot be read"):
        load_ground_truth(tmp_path / "none.csv")
