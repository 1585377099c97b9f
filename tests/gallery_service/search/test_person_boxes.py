"""Proposing boxes in an uploaded frame, with an invented detector and with the real one on real footage."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from gallery_service.errors import Busy, NoDetector
from gallery_service.search import person_boxes
from gallery_service.search.person_boxes import BoxProposer
from ingest.detection import Detections, DetectorError
from ingest.site import Detector as DetectorConfig
from ingest.site import SiteConfig
from models.images import ImageError, encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, run_service

DETECTIONS = "/api/v1/sites/toy/detections"


class BrightSpot:
    """Sees one person: the bounding box of everything white; and a faint second one everywhere."""

    name = "spot"

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.looking = threading.Event()

    def fingerprint(self) -> str:
        return "spot"

    def begin(self, preview: Iterable[NDArray[np.uint8]]) -> None:
        assert list(preview) == []

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        self.looking.set()
        assert self.go_on.wait(30)
        self.seen.append(frame.shape)
        x, y, width, height = cv2.boundingRect((frame.min(axis=2) > 200).astype(np.uint8))
        boxes = np.array([[0, 0, *frame.shape[1::-1]], [x, y, x + width, y + height]], np.float32)
        return Detections(boxes, np.array([0.2, 0.9], np.float32))


@pytest.fixture
def spot(monkeypatch: pytest.MonkeyPatch) -> BrightSpot:
    detector = BrightSpot()
    monkeypatch.setattr(person_boxes, "make_detector", lambda *_: detector)
    return detector


def config(**changes: Any) -> DetectorConfig:
    return DetectorConfig.model_validate({"weights": "x.onnx", **changes})


def frame(width: int, height: int, box: tuple[int, int, int, int]) -> bytes:
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return encode_jpeg(image)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (3840, 2160), (50, 50), (4000, 100)])
def test_boxes_are_fractions_of_the_frame_as_it_was_sent(spot: BrightSpot, width: int, height: int) -> None:
    box = (width // 4, height // 5, width // 2, height * 4 // 5)
    found = BoxProposer(16_000_000).propose(frame(width, height, box), config(), Path())
    assert (found.width, found.height, found.detector, len(found.people)) == (width, height, "spot", 1)
    expected = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
    assert found.people[0].box == pytest.approx(expected, abs=0.03)
    (shape,) = spot.seen
    assert shape[0] == shape[1] <= 1920


def test_the_faint_ones_are_shown_where_site_yaml_says_so_best_first_and_inside_the_frame(spot: BrightSpot) -> None:
    found = BoxProposer(10**6).propose(frame(400, 200, (0, 0, 100, 150)), config(min_score=0.1), Path())
    assert [person.score for person in found.people] == pytest.approx([0.9, 0.2])
    assert found.people[1].box == (0, 0, 1, 1)


def test_weights_are_loaded_once_and_again_when_site_yaml_names_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(wanted: DetectorConfig, _: Path) -> BrightSpot:
        made.append(wanted.weights)
        return BrightSpot()

    monkeypatch.setattr(person_boxes, "make_detector", make)
    proposer = BoxProposer(10**6)
    for weights in ("a.pt", "a.pt", "b.pt"):
        proposer.propose(frame(40, 40, (5, 5, 20, 30)), config(weights=weights), Path())
    assert made == ["a.pt", "b.pt"]


def test_only_so_many_frames_wait(spot: BrightSpot) -> None:
    proposer, picture = BoxProposer(10**6), frame(40, 40, (5, 5, 20, 30))
    spot.go_on.clear()
    waiting = [threading.Thread(target=proposer.propose, args=(picture, config(), Path())) for _ in range(4)]
    for thread in waiting:
        thread.start()
    assert spot.looking.wait(30)
    while proposer._places._value:  # type: ignore[attr-defined]
        threading.Event().wait(0.01)
    with pytest.raises(Busy):
        proposer.propose(picture, config(), Path())
    spot.go_on.set()
    for thread in waiting:
        thread.join(30)
    assert len(proposer.propose(picture, config(), Path()).people) == 1


def test_a_site_without_a_detector_for_pictures_says_so(service: RunningService) -> None:
    answer = httpx.post(f"{service.url}{DETECTIONS}", files={"image": encode_jpeg(synthetic.query_crop(0))}, timeout=60)
    assert answer.status_code == 409
    assert "motion" in answer.json()["detail"]
    assert "site.yaml" in answer.json()["detail"]


def test_weights_that_cannot_be_used_are_an_answer_and_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposer = BoxProposer(10**6)
    for _ in range(6):  # every time: a failure must not use up a place
        with pytest.raises(NoDetector, match="log says why") as error:
            proposer.propose(frame(40, 40, (5, 5, 20, 30)), config(weights="gone.onnx"), tmp_path)
    assert str(tmp_path) not in str(error.value)
    assert "gone.onnx" in caplog.text

    def broken(*_: object) -> None:
        raise DetectorError("no")

    monkeypatch.setattr(BrightSpot, "detect", broken)
    monkeypatch.setattr(person_boxes, "make_detector", lambda *_: BrightSpot())
    with pytest.raises(NoDetector):
        proposer.propose(frame(40, 40, (5, 5, 20, 30)), config(), tmp_path)


def test_what_is_no_image_is_refused(spot: BrightSpot) -> None:
    with pytest.raises(ImageError, match="the uploaded image"):
        BoxProposer(10**6).propose(b"no image", config(), Path())
    with pytest.raises(ImageError, match="at most 10,000"):
        BoxProposer(10_000).propose(frame(200, 200, (0, 0, 9, 9)), config(), Path())
    assert spot.seen == []


@pytest.mark.shared_data
def test_the_sites_own_yolo_finds_people_and_one_of_them_can_be_searched_for(
    indexed_site: SiteConfig, shared_data: Path
) -> None:
    from ingest.video import frames

    weights = shared_data / "weights/yolov8n_int8_openvino_model"
    seen = next(frame.image for frame in frames(shared_data / "footage/plaza/cam1.mp4") if frame.index >= 100)
    content = yaml.safe_load(indexed_site.file.read_text())
    indexed_site.file.write_text(yaml.safe_dump(content | {"detector": {"weights": str(weights)}}))
    picture = encode_jpeg(seen)
    with run_service(indexed_site.folder) as running, httpx.Client(base_url=running.url, timeout=120) as client:
        assert client.get("/api/v1/sites/toy").json()["proposes_boxes"] is True
        found = client.post(DETECTIONS, files={"image": picture}).json()
        assert (found["width"], found["height"]) == seen.shape[1::-1]
        assert len(found["people"]) >= 2
        for person in found["people"]:
            x1, y1, x2, y2 = person["box"]
            assert 0 <= x1 < x2 <= 1
            assert 0 <= y1 < y2 <= 1
        box = ",".join(map(str, found["people"][0]["box"]))
        answer = client.post("/api/v1/sites/toy/search", files={"image": picture}, params={"box": box})
        assert answer.status_code == 200
