"""The long ones, run by `make soak`: seeded, and each outcome is appended to docs/soak.jsonl.

CALR_SOAK_SEED chooses another seed, CALR_SOAK_ROUNDS another length.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ingest.video import VideoError, frames
from models.images import ImageError, decode_image
from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import STAGES, Sites, artefacts
from tests.end_to_end.test_kill import kill_after

pytestmark = pytest.mark.soak  # minutes to hours each

SEED = int(os.environ.get("CALR_SOAK_SEED", "1"))
ROUNDS = int(os.environ.get("CALR_SOAK_ROUNDS", "0"))


def record(name: str, **figures: object) -> None:
    line = {"soak": name, "seed": SEED, "day": datetime.now(UTC).date().isoformat(), **figures}
    with (REPOSITORY / "docs" / "soak.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut off, doubled or zeroed."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 12)):
        at = draw.randrange(len(out))
        kind = draw.randrange(4)
        if kind == 0:
            out[at] = draw.randrange(256)
        elif kind == 1:
            del out[at : at + draw.randint(1, 64)]
        elif kind == 2:
            out[at:at] = out[at : at + draw.randint(1, 64)]
        else:
            length = min(draw.randint(1, 64), len(out) - at)
            out[at : at + length] = bytes(length)
        if len(out) < 2:
            break
    return bytes(out)


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


@pytest.mark.timeout(7200)
def test_mutated_videos_never_do_more_than_raise_a_video_error(rendered: Path, tmp_path: Path):
    draw = random.Random(SEED)
    original = next((rendered / "recordings").glob("*.mp4")).read_bytes()[:400_000]
    rounds, read = ROUNDS or 500, 0
    for number in range(rounds):
        file = tmp_path / f"{number}.mp4"
        file.write_bytes(mutated(original, draw))
        try:
            read += sum(1 for _ in frames(file)) > 0
        except VideoError:
            pass
        finally:
            file.unlink()
    record("mutated videos", rounds=rounds, gave_frames=read)
    shutil.rmtree(tmp_path, ignore_errors=True)
