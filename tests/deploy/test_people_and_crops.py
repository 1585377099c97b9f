from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from camera import Pinhole, random_camera_look
from crops import render_crop
from figure import Figure, Pose
from people import BAGS, Person, alike_person, demo_people, identity_stream, random_person

LIGHT = np.array([0.2, -0.3, 1.0]) / np.linalg.norm([0.2, -0.3, 1.0])
VIEW = Pinhole(640, 360, 520.0, 2.6, 0.17)


def silhouette(person: Person, heading: float, *, phase: float = 1.0) -> np.ndarray:
    pose = Pose(0.0, 7.0, heading, phase, 0.44)
    return Figure(person).draw(pose, VIEW, LIGHT).image


def test_the_same_stream_gives_the_same_person_and_another_name_or_number_another() -> None:
    first = random_person(identity_stream("demo", 3))
    assert random_person(identity_stream("demo", 3)) == first
    assert random_person(identity_stream("pretrain", 3)) != first
    assert random_person(identity_stream("demo", 4)) != first


def test_no_demo_person_is_a_pretraining_person() -> None:
    demo = {person for seed in range(20) for person in demo_people(seed, 24)}
    pretrained = {random_person(identity_stream("pretrain", number)) for number in range(500)}
    assert len(demo) == 20 * 24
    assert not demo & pretrained


def test_look_alikes_share_most_attributes_and_differ_in_some() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        person = random_person(rng)
        other = alike_person(person, rng)
        differing = [name for name in vars(person) if getattr(person, name) != getattr(other, name)]
        assert 2 <= len(set(differing) - {"height"}) <= 4
        assert abs(person.height - other.height) <= 0.06 + 1e-9


def test_a_demo_has_look_alikes() -> None:
    people = demo_people(1, 24)
    close = sum(
        sum(getattr(a, name) == getattr(b, name) for name in vars(a)) >= 11
        for i, a in enumerate(people)
        for b in people[:i]
    )
    assert close >= 3


def test_a_taller_person_is_drawn_taller_and_their_size_follows_the_pinhole() -> None:
    person = random_person(np.random.default_rng(5))
    rows = np.flatnonzero((silhouette(person, 0.0)[..., 3] > 0).any(axis=1))
    drawn = (rows[-1] - rows[0] + 1) / 2
    # Foot and head top projected by hand: depth along the axis differs between them.
    points, _ = VIEW.project(np.array([[0.0, 7.0, 0.0], [0.0, 7.0, person.height]]))
    assert drawn == pytest.approx(points[0, 1] - points[1, 1], rel=0.08)


def test_front_side_and_back_look_different() -> None:
    person = random_person(np.random.default_rng(11))
    green = {name: (0, 160, 0) for name in vars(person) if "colour" in name or name in ("skin", "hair")}
    person = replace(person, **{**green, "bag": "backpack", "bag_colour": (0, 0, 255), "upper": "tshirt"})
    red = {
        name: int(((image[..., 2] > 90) & (image[..., 1] < 60) & (image[..., 3] > 0)).sum())
        for name, image in (("back", silhouette(person, np.pi / 2)), ("front", silhouette(person, -np.pi / 2)))
    }
    assert red["back"] > 4 * red["front"] + 50
    widths = {
        name: np.ptp(np.flatnonzero((silhouette(person, heading, phase=np.pi / 2)[..., 3] > 0).any(axis=0)))
        for name, heading in (("side", 0.0), ("back", np.pi / 2))
    }
    assert widths["side"] > widths["back"]


@pytest.mark.parametrize("bag", BAGS)
@pytest.mark.parametrize("lower", ["trousers", "shorts", "skirt", "long skirt"])
def test_every_outfit_can_be_drawn_from_every_side(bag: str, lower: str) -> None:
    base = vars(random_person(np.random.default_rng(2)))
    person = Person(**{**base, "bag": bag, "lower": lower, "hair_style": "long", "hat": "cap"})
    for heading in np.linspace(-np.pi, np.pi, 5):
        body = (silhouette(person, heading)[..., 3] > 0).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(body)
        # One body: nothing floats beside it.
        assert stats[1:, cv2.CC_STAT_AREA].max() > 0.97 * body.sum(), f"{count - 1} pieces"


def test_crops_are_reproducible_and_have_the_size_asked_for() -> None:
    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return render_crop(random_person(rng), random_camera_look(rng), rng, size=(96, 40))

    assert make(1).shape == (96, 40, 3)
    assert make(1).dtype == np.uint8
    assert np.array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


def test_a_person_and_their_figure_give_the_same_crop() -> None:
    person, look = random_person(np.random.default_rng(1)), random_camera_look(np.random.default_rng(2))
    by_person = render_crop(person, look, np.random.default_rng(3))
    by_figure = render_crop(Figure(person), look, np.random.default_rng(3))
    assert np.array_equal(by_person, by_figure)


def test_many_random_crops_can_be_made() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        crop = render_crop(random_person(rng), random_camera_look(rng), rng)
        assert crop.shape == (128, 64, 3)
        assert crop.std() > 2
