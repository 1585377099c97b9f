"""The long tests over all stages, run by `make soak`."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.images import ImageError, decode_image
from tests.end_to_end.conftest import STAGES, Sites, artefacts
from tests.end_to_end.test_kill import kill_after
from tests.soak import ROUNDS, SEED, mutated, record

pytestmark = pytest.mark.soak  # minutes to hours each


@pytest.mark.timeout(7200)
def test_random_kills_over_all_stages(sites: Sites, finished: Sites):
    """Each round kills one stage at a random moment; at the end the artefacts are those of the undisturbed run."""
    draw = random.Random(SEED)
    rounds = ROUNDS or 100
    landed = 0
    expected = artefacts(finished.folder / "small")
    for number in range(rounds):
        package, command = STAGES[number * 4 // rounds]
        landed += kill_after(sites, package, command, draw.uniform(0.3, 9.0))
        if (number + 1) * 4 // rounds > number * 4 // rounds:  # the stage's last round: let it finish
            done = sites.run(package, command, "small")
            assert done.returncode == 0, done.stderr
    found = artefacts(sites.folder / "small")
    assert {name: found.get(name) for name in expected} == expected
    record("random kills", rounds=rounds, killed_while_running=landed, artefacts=len(expected))


def test_mutated_images_never_do_more_than_raise_an_image_error():
    import cv2

    draw = random.Random(SEED)
    picture = np.random.default_rng(SEED).integers(0, 256, (80, 40, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    originals = [bytes(cv2.imencode(kind, picture)[1]) for kind in (".jpg", ".png", ".webp", ".bmp")]
    rounds, read = ROUNDS or 5000, 0
    for number in range(rounds):
        try:
            image = decode_image(mutated(originals[number % 4], draw), what="fuzz")
        except ImageError:
            continue
        assert image.dtype == np.uint8
        assert image.ndim == 3
        read += 1
    record("mutated images", rounds=rounds, still_readable=read)
