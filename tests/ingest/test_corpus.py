"""Every codec, container and fault of the corpus, through the command: what becomes of it, and when it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.shards import Shard, list_shards
from ingest.site import load_site
from ingest.video import VideoReader
from ingest.workspace import Workspace
from tests.ingest.conftest import FPS, HEIGHT, WIDTH
from tests.ingest.corpus import CASES, WALKERS, Case, outcome_table, write_corpus
from tests.ingest.test_pipeline import run

TAKEN = [case for case in CASES if case.outcome != "refused"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def ingested(corpus: Path) -> Iterator[dict[str, Any]]:
    """What the command says about the whole corpus."""
    code, out, err = run(corpus, "--json")
    assert "Traceback" not in err
    # Some were refused, so it is not 0; most are in, so it is not 1.
    assert code == 3, err
    yield json.loads(out)


def shard_of(corpus: Path, case: Case) -> Shard:
    (shard,) = list_shards(Workspace(load_site(str(corpus))), case.camera)
    return shard


def test_nothing_is_dropped_without_a_word(ingested: dict[str, Any]) -> None:
    refused = {failure["camera"] for failure in ingested["failures"]}
    assert refused == {case.camera for case in CASES if case.outcome == "refused"}
    assert ingested["counts"]["videos"] == len(TAKEN)
    assert ingested["waiting"] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_becomes_of_it(corpus: Path, ingested: dict[str, Any], case: Case) -> None:
    said = [
        entry["error"] for kind in ("failures", "remarks") for entry in ingested[kind] if entry["camera"] == case.camera
    ]
    assert case.says in " ".join(said)
    if case.outcome == "refused":
        (failure,) = (failure for failure in ingested["failures"] if failure["camera"] == case.camera)
        assert case.name in failure["error"]
        return
    summary = shard_of(corpus, case).summary
    decode, frames = summary["decode"], summary["counts"]["frames"]
    if case.outcome == "whole":
        assert (decode["damaged"], decode["truncated"], frames) == (0, False, case.frames)
        # The motion detector sees one block as two now and then where a codec smears.
        assert summary["counts"]["tracklets"] >= len(WALKERS)
    else:
        assert decode["damaged"] > 0 or decode["truncated"]
        assert case.frames // 2 <= frames <= case.frames
        assert summary["counts"]["tracklets"] >= 1
    assert (summary["width"], summary["height"]) == (WIDTH, HEIGHT)


def where(image: NDArray[np.uint8], feet: int) -> float | None:
    """The left edge of the block whose feet are there, in pixels, by its middle: colour is blurred at edges."""
    row = image[feet - 60 : feet - 10].astype(np.int32)
    blue = (row[..., 0] - row[..., 2] > 60).mean(axis=0) > 0.5
    columns = np.flatnonzero(blue)
    return None if len(columns) < 12 else float(columns.mean()) - 11.5


@pytest.mark.parametrize("case", [c for c in CASES if c.outcome == "whole" and c.timed], ids=lambda case: case.name)
def test_times_are_right_to_one_frame(corpus: Path, case: Case) -> None:
    """Seen from where the blocks are, which says what time it is."""
    with VideoReader(corpus / case.name) as reader:
        seen = [(frame.pts_s, frame.image) for frame in reader.frames()]
    checked = 0
    for pts_s, image in seen:
        for walker in WALKERS:
            left = where(image, walker.feet)
            if left is not None:
                checked += 1
                assert walker.start + (left - walker.x) / walker.speed == pytest.approx(pts_s, abs=1.001 / FPS)
    assert checked >= case.frames


def test_the_documented_table_is_the_corpus() -> None:
    document = Path(__file__).parents[2] / "docs" / "recordings.md"
    assert outcome_table() in document.read_text(encoding="utf-8")
