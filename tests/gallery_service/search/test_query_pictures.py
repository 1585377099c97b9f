"""Searching with several pictures of one person, and with a part of a picture."""

from __future__ import annotations

import hashlib

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from gallery_service.errors import BadQuery
from gallery_service.search.query_pictures import MAX_PICTURES, QueryPicture, embed_person, parse_boxes
from ingest.site import load_site
from ingest.workspace import Workspace
from models.bundle import ModelStore
from models.embedder import Embedder
from models.images import ImageError
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService

SEARCH = "/api/v1/sites/toy/search"


def png(pixels: NDArray[np.uint8]) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.fixture
def client(service: RunningService) -> httpx.Client:
    return httpx.Client(base_url=service.url, timeout=120)


@pytest.fixture(scope="module")
def embedder(built_site: object) -> Embedder:
    bundle = ModelStore(Workspace(load_site(str(built_site))).models).current()
    assert bundle is not None
    return Embedder(bundle, threads=1)


def scores(client: httpx.Client, files: list[bytes], **params: object) -> dict[str, float]:
    sent = [("image", ("x.png", content, "image/png")) for content in files]
    answer = client.post(SEARCH, files=sent, params={"top_k": 50, **params})  # type: ignore[dict-item]
    assert answer.status_code == 200, answer.text
    return {match["tracklet_id"]: match["score"] for match in answer.json()["matches"]}


def test_several_pictures_are_searched_with_their_normalised_mean(client: httpx.Client, embedder: Embedder) -> None:
    crops = [synthetic.query_crop(0, camera) for camera in (1, 2, 3)]
    mean = embedder.embed(crops).astype(np.float64).mean(axis=0)
    mean /= np.linalg.norm(mean)
    alone = [scores(client, [png(crop)]) for crop in crops]
    together = scores(client, [png(crop) for crop in crops])
    vectors = embedder.embed(crops).astype(np.float64)
    # The cosine with a mean is the mean of the cosines, over the mean's length.
    length = np.linalg.norm(vectors.mean(axis=0))
    assert together.keys() == alone[0].keys()
    for name, score in together.items():
        assert score == pytest.approx(np.mean([one[name] for one in alone]) / length, abs=1e-4)


def test_a_box_searches_as_the_crop_cut_out_would(client: httpx.Client) -> None:
    walk = synthetic.Walk(3, 0.0, 10.0)
    frame = synthetic.frame_at(1, [walk], 3.3)
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = walk.box(3.3)
    box = f"{x1 / width},{y1 / height},{x2 / width},{y2 / height}"
    cut = scores(client, [png(np.ascontiguousarray(frame[y1:y2, x1:x2]))])
    assert scores(client, [png(frame)], box=box) == cut
    assert scores(client, [png(frame)]) != cut
    both = scores(client, [png(frame), png(np.ascontiguousarray(frame[y1:y2, x1:x2]))], box=[box, ""])
    assert both == pytest.approx(cut, abs=1e-5)


@pytest.mark.parametrize("box", ["1,2", "a,b,c,d", "0,0,1,1.1", "-0.1,0,1,1", "0.5,0,0.5,1", "0,1,1,0", "nan,0,1,1",
                                 "0,0,inf,1", ",,,", "0 0 1 1", "0,0,1,1,1"])  # fmt: skip
def test_what_is_no_box_is_named(client: httpx.Client, box: str) -> None:
    answer = client.post(SEARCH, files={"image": png(synthetic.query_crop(0))}, params={"box": box})
    assert answer.status_code == 422
    assert "box" in answer.json()["detail"]
    assert "x1" in answer.json()["detail"]


def test_there_is_a_box_for_each_picture_or_none() -> None:
    assert parse_boxes([], 2) == [None, None]
    assert parse_boxes(["", "0,0,0.5,1"], 2) == [None, (0.0, 0.0, 0.5, 1.0)]
    for given, pictures in ((["0,0,1,1"], 2), (["0,0,1,1"] * 2, 1)):
        with pytest.raises(BadQuery, match="one for each"):
            parse_boxes(given, pictures)


@pytest.mark.parametrize("box", [(0.999, 0.999, 1.0, 1.0), (0.0, 0.0, 1e-9, 1e-9), (0.5, 0.0, 0.5000001, 1.0)])
def test_the_smallest_box_still_holds_a_pixel(box: tuple[float, float, float, float]) -> None:
    picture = QueryPicture(png(synthetic.query_crop(0)), box)
    assert picture.pixels("x", 10_000_000).size > 0


def test_too_many_pictures_and_one_that_is_none(client: httpx.Client) -> None:
    crop = png(synthetic.query_crop(0))
    many = [("image", crop)] * (MAX_PICTURES + 1)
    answer = client.post(SEARCH, files=many)
    assert answer.status_code == 422
    assert str(MAX_PICTURES) in answer.json()["detail"]
    answer = client.post(SEARCH, files=[("image", crop), ("image", b"no picture")])
    assert answer.status_code == 422
    assert "the uploaded image (number 2)" in answer.json()["detail"]


def test_each_picture_is_bounded(embedder: Embedder) -> None:
    small, large = png(synthetic.query_crop(0)), png(np.zeros((300, 300, 3), np.uint8))
    with pytest.raises(ImageError, match=r"number 2.*300 × 300"):
        embed_person(embedder, [QueryPicture(small), QueryPicture(large)], "it", max_pixels=10_000)


def test_the_record_names_every_picture_and_the_part_that_was_looked_at() -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    assert QueryPicture(b"content").fingerprint == digest
    assert QueryPicture(b"content", (0.0, 0.125, 1.0, 0.5)).fingerprint == f"{digest}#box=0,0.125,1,0.5"
