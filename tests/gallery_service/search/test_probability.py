"""The probabilities in an answer, against a plain reading of the whole gallery."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gallery_service.caller import LOCAL, Caller, Role
from gallery_service.investigations.schemas import NewInvestigation
from gallery_service.investigations.service import Investigations
from gallery_service.schemas import Match
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from ingest.workspace import Workspace
from models.atomic import sha256_file, write_json
from models.bundle import ModelStore, load_bundle
from models.embedder import Embedder
from models.images import decode_image, encode_jpeg
from models.matching.calibration import Calibration, LookAlikes, calibration_json
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import copy_site
from tests.gallery_service.search.test_site_search import truth

CALIBRATION = Calibration(40.0, -1.5, LookAlikes(2, 4, depth=100, camera_size=1.0), 50, 0.2)
"""All of the gallery's 13 tracklets are looked through: 5 of cam1, 8 of cam2."""

QUERY = encode_jpeg(synthetic.query_crop(2))


def calibrate(search: SiteSearch, calibration: Calibration) -> None:
    """Put a calibration into the live bundle, as if it had been made with one."""
    bundle = ModelStore(Workspace(search.site).models).current()
    assert bundle is not None
    write_json(bundle.path / "calibration.json", calibration_json(calibration))
    record = json.loads((bundle.path / "bundle.json").read_text())
    record["files"]["calibration.json"] = sha256_file(bundle.path / "calibration.json")
    write_json(bundle.path / "bundle.json", record)
    (bundle.path / "SHA256SUMS").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def found(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteSearch]:
    """The indexed site with a calibrated model, for tests that only ask."""
    search = SiteSearch(copy_site(built_gallery, tmp_path_factory.mktemp("calibrated")), ServiceSettings(threads=1))
    calibrate(search, CALIBRATION)
    yield search
    search.close()


def plain(search: SiteSearch, query: np.ndarray, match: Match) -> float:
    """The probability of a match, read off the segments."""
    vectors, _ = truth(search.site)
    own = sorted((float(v @ query) for name, v in vectors.items() if name.startswith(match.camera_id)), reverse=True)
    margin = float(vectors[match.tracklet_id] @ query) - float(np.mean(own[1:4]))
    return 1 / (1 + math.exp(-(40 * margin - 1.5)))


def test_a_crop_has_the_probability_that_follows_from_its_cameras_look_alikes(found: SiteSearch) -> None:
    bundle = found.refresh().bundle
    query = Embedder(bundle, threads=1).embed([decode_image(QUERY, what="the query")])[0]
    answer = found.search_image(LOCAL, QUERY, SearchRequest(top_k=50))
    assert len(answer.matches) == 13
    for match in answer.matches:
        assert match.probability == pytest.approx(plain(found, query, match), abs=2e-4)
    for camera in ("cam1", "cam2"):
        said = [match.probability for match in answer.matches if match.camera_id == camera]
        assert said == sorted(said, key=lambda p: -1 if p is None else -p), "the better match is the likelier"
    assert len({match.probability for match in answer.matches}) > 5


@pytest.mark.parametrize(
    "narrowed",
    [
        SearchRequest(top_k=2),
        SearchRequest(cameras=["cam2"]),
        SearchRequest(exclude_cameras=["cam2"]),
        SearchRequest(since="2026-03-01T08:10:04Z", until="2026-03-01T08:20:05Z"),
        SearchRequest(min_quality=0.6),
        SearchRequest(rerank=True),
    ],
)
def test_narrowing_a_search_makes_no_match_surer(found: SiteSearch, narrowed: SearchRequest) -> None:
    everything = found.search_image(LOCAL, QUERY, SearchRequest(top_k=50)).matches
    said = {match.tracklet_id: match.probability for match in everything}
    matches = found.search_image(LOCAL, QUERY, narrowed).matches
    assert matches
    assert {match.tracklet_id: match.probability for match in matches}.items() <= said.items()


def test_matches_of_the_querys_own_camera_have_none(found: SiteSearch) -> None:
    vectors, _ = truth(found.site)
    for query_id in (min(vectors), max(vectors)):
        camera = query_id.split("/")[0]
        matches = found.search_tracklet(LOCAL, query_id, SearchRequest(top_k=50)).matches
        assert len(matches) == 12
        for match in matches:
            if match.camera_id == camera:
                assert match.probability is None
            else:
                assert match.probability == pytest.approx(plain(found, vectors[query_id], match), abs=2e-4)


def test_nor_have_those_of_a_refined_search(found: SiteSearch) -> None:
    vectors, _ = truth(found.site)
    query_id = min(vectors)
    cases = Investigations(found, LOCAL)
    case = cases.begin(NewInvestigation(title="t", purpose="p"))[0].investigation_id
    cases.search_tracklet(case, query_id, SearchRequest())
    matches = cases.search_refined(case, SearchRequest(top_k=50)).matches
    assert len(matches) == 12
    for match in matches:
        assert (match.probability is None) == (match.camera_id == query_id.split("/")[0])


def test_levels_come_from_what_the_caller_may_see(built_gallery: Path, tmp_path: Path) -> None:
    """A look that is not deep would tell how many of the nearest lie in cameras that they may not see."""
    search = SiteSearch(copy_site(built_gallery, tmp_path), ServiceSettings(threads=1))
    calibrate(search, Calibration(40.0, -1.5, LookAlikes(2, 4, depth=5, camera_size=1.0), 50, 0.2))
    query = Embedder(search.refresh().bundle, threads=1).embed([decode_image(QUERY, what="the query")])[0]
    somebody = Caller("somebody", Role.INVESTIGATOR, {search.name: frozenset({"cam1"})})
    narrow = search.search_image(somebody, QUERY, SearchRequest(top_k=50)).matches
    wide = search.search_image(LOCAL, QUERY, SearchRequest(top_k=50, cameras=["cam1"])).matches
    search.close()
    assert len(narrow) == 5
    for match in narrow:
        assert match.probability == pytest.approx(plain(search, query, match), abs=2e-4)
    for seen, cut_off in zip(narrow, wide, strict=True):
        assert seen.probability is not None and cut_off.probability is not None
        assert cut_off.probability < seen.probability, "what was not looked at makes nothing surer"


def test_a_gallery_that_shrank_is_looked_at_as_what_is_left_of_it(built_gallery: Path, tmp_path: Path) -> None:
    """Fitted where a camera showed twice as much: what was at ranks 4 to 8 is at 2 to 4 now."""
    search = SiteSearch(copy_site(built_gallery, tmp_path), ServiceSettings(threads=1))
    calibrate(search, Calibration(40.0, -1.5, LookAlikes(4, 8, depth=200, camera_size=13.0), 50, 0.2))
    query = Embedder(search.refresh().bundle, threads=1).embed([decode_image(QUERY, what="the query")])[0]
    matches = search.search_image(LOCAL, QUERY, SearchRequest(top_k=50)).matches
    search.close()
    for match in matches:
        assert match.probability == pytest.approx(plain(search, query, match), abs=2e-4)


def test_a_camera_that_shows_too_few_people_gives_none(built_gallery: Path, tmp_path: Path) -> None:
    search = SiteSearch(copy_site(built_gallery, tmp_path), ServiceSettings(threads=1))
    calibrate(search, Calibration(40.0, -1.5, LookAlikes(6, 8, depth=100, camera_size=1.0), 50, 0.2))
    said = {
        match.tracklet_id: match.probability
        for match in search.search_image(LOCAL, QUERY, SearchRequest(top_k=50)).matches
    }
    search.close()
    assert {name.split("/")[0] for name, probability in said.items() if probability is None} == {"cam1"}
    assert sum(probability is not None for probability in said.values()) == 8


def test_a_model_made_before_there_were_calibrations_answers_as_before(built_gallery: Path, tmp_path: Path) -> None:
    search = SiteSearch(copy_site(built_gallery, tmp_path), ServiceSettings(threads=1))
    bundle = load_bundle(search.refresh().bundle.path)
    assert bundle.calibration is None
    matches = search.search_image(LOCAL, QUERY, SearchRequest()).matches
    search.close()
    assert [match.probability for match in matches] == [None] * 13
