"""The YOLO detector: what is refused without loading anything, and the real thing on real footage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ingest.box_overlap import iou
from ingest.detection import Detections, DetectorError, make_detector
from ingest.site import Detector
from ingest.yolo import LOWEST_SCORE, NMS_IOU, YoloDetector
from models.atomic import sha256_file
from tests.affinity import share_tied, tied_threads


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"gone\.onnx: no such detector weights"):
        make_detector(Detector.model_validate({"weights": "gone.onnx"}), tmp_path)
    with pytest.raises(DetectorError, match="OpenVINO"):
        (tmp_path / "folder").mkdir()
        make_detector(Detector.model_validate({"weights": "folder"}), tmp_path)
    (tmp_path / "x.bin").touch()
    with pytest.raises(DetectorError, match=r"\.pt, \.onnx or"):
        make_detector(Detector.model_validate({"weights": "x.bin"}), tmp_path)


def test_a_pin_is_checked(tmp_path: Path) -> None:
    weights = tmp_path / "w.onnx"
    weights.write_bytes(b"weights")
    good = sha256_file(weights)
    assert YoloDetector(f"w.onnx#sha256={good}", tmp_path).path == weights.resolve()
    with pytest.raises(DetectorError, match="not the pinned"):
        YoloDetector(f"w.onnx#sha256={'0' * 64}", tmp_path)
    for wrong in ("sha256=xyz", "md5=0", ""):
        if wrong:
            with pytest.raises(DetectorError, match="a pin is written"):
                YoloDetector(f"w.onnx#{wrong}", tmp_path)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    weights = tmp_path / "w.onnx"
    weights.write_bytes(b"one")
    one = YoloDetector("w.onnx", tmp_path).fingerprint()
    assert YoloDetector("w.onnx", tmp_path, image_size=1280).fingerprint() != one
    (tmp_path / "copy.onnx").write_bytes(b"one")
    assert YoloDetector("copy.onnx", tmp_path).fingerprint() == one
    weights.write_bytes(b"two")
    assert YoloDetector("w.onnx", tmp_path).fingerprint() != one


def test_what_is_no_network_is_refused_when_it_is_first_used(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"not a network")
    with pytest.raises(DetectorError, match=r"w\.onnx: ultralytics cannot load"):
        YoloDetector("w.onnx", tmp_path).detect(np.zeros((64, 64, 3), np.uint8))


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    import torch

    class Attack:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (os.mkdir, (str(tmp_path / "attacked"),))

    torch.save({"model": Attack()}, tmp_path / "w.pt")
    with pytest.raises(DetectorError):
        YoloDetector("w.pt", tmp_path).detect(np.zeros((64, 64, 3), np.uint8))
    assert not (tmp_path / "attacked").exists()


OFFLINE = """
import json, socket, subprocess, sys
from pathlib import Path
calls = []
def refuse(*a, **k):
    calls.append("network")
    raise OSError("no network here")
socket.getaddrinfo = refuse
socket.socket.connect = refuse
run = subprocess.Popen.__init__
def watch(self, args, *a, **k):
    if "pip" in str(args) or "uv" in str(args).split():
        calls.append(str(args))
    return run(self, args, *a, **k)
subprocess.Popen.__init__ = watch
import numpy as np
from ingest.yolo import YoloDetector
detector = YoloDetector(sys.argv[1], Path("."))
found = detector.detect(np.zeros((480, 640, 3), np.uint8))
from ingest.tracking import Tracker
Tracker(10.0, 0.25)
from ultralytics import settings
print(json.dumps({"found": len(found), "calls": calls, "sync": settings["sync"]}))
"""


@pytest.mark.shared_data
def test_it_stays_offline_quiet_and_installs_nothing(shared_data: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(shared_data / "weights/yolov8n_int8_openvino_model")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "CALR_CACHE": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert json.loads(done.stdout) == {"found": 0, "calls": [], "sync": False}


@pytest.mark.shared_data
def test_real_people_are_found(shared_data: Path) -> None:
    from ingest.video import frames

    detector = YoloDetector("yolov8n_int8_openvino_model", shared_data / "weights")
    counts = []
    for frame in frames(shared_data / "footage/plaza/cam1.mp4"):
        if frame.index % 100 == 0:
            found = detector.detect(frame.image)
            sure = found.keep(found.scores >= 0.25)
            counts.append(len(sure))
            height = sure.boxes[:, 3] - sure.boxes[:, 1]
            assert 30 < np.median(height) < 140
        if frame.index >= 600:
            break
    assert min(counts) >= 2
    assert sum(counts) >= 25


@pytest.mark.shared_data
def test_openvino_finds_what_ultralytics_finds(shared_data: Path) -> None:
    """The same weights, run by ultralytics' own code: square frames get the same input, so the same answer; ultralytics
    puts others between grey bars, which are left out here, and only who is plainly there must be found by both."""
    from ingest.ultralytics_offline import prepare_ultralytics
    from ingest.video import frames

    prepare_ultralytics()
    from ultralytics import YOLO

    weights = shared_data / "weights/yolov8n_int8_openvino_model"
    theirs, ours = YOLO(str(weights), task="detect"), YoloDetector(str(weights), shared_data)

    def both(image: np.ndarray) -> tuple[Detections, Detections]:
        result = theirs.predict(image, conf=LOWEST_SCORE, iou=NMS_IOU, classes=[0], verbose=False, save=False)[0].boxes
        found = ours.detect(image)
        size = np.asarray([image.shape[1], image.shape[0]] * 2, np.float32)
        found = Detections(np.clip(found.boxes, 0, size), found.scores)  # ultralytics cuts boxes at the frame
        return found, Detections(result.xyxy.numpy(), result.conf.numpy())

    people = sure = agreed = 0
    for frame in frames(shared_data / "footage/plaza/cam2.mp4"):
        if frame.index % 20:
            continue
        whole = frame.image
        double = np.kron(whole, np.ones((2, 2, 1), np.uint8))
        square = [whole[:, 80:560], double[:960, 200:1160]][frame.index // 20 % 2]
        found, wanted = both(np.ascontiguousarray(square))
        order, their_order = np.argsort(-found.scores), np.argsort(-wanted.scores)
        np.testing.assert_allclose(found.scores[order], wanted.scores[their_order], atol=2e-2)
        np.testing.assert_allclose(found.boxes[order], wanted.boxes[their_order], atol=4.0)
        people += len(found)
        found, wanted = both(np.ascontiguousarray([whole, whole[:, 200:420], double][frame.index // 20 % 3]))
        overlaps = iou(wanted.boxes[wanted.scores >= 0.5], found.boxes)
        sure += len(overlaps)
        agreed += int((overlaps >= 0.75).any(axis=1).sum())
        if frame.index > 600:
            break
    assert people > 50
    assert sure > 50
    assert agreed >= 0.95 * sure


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/w.xml").write_text("<net/>")
    frame = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(DetectorError, match="not a YOLO as ultralytics exports it"):
        YoloDetector("w", tmp_path).detect(frame)
    (tmp_path / "w/metadata.yaml").write_text("names: {0: person}\nimgsz: [64, 64]\n")
    with pytest.raises(DetectorError, match="not a YOLO"):
        YoloDetector("w", tmp_path).detect(frame)


def test_a_network_that_openvino_reads_but_cannot_run_is_named(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13 as layers

    (tmp_path / "w").mkdir()
    (tmp_path / "w/metadata.yaml").write_text("names: {0: person}\nimgsz: [64, 64]\n")
    pixels = layers.parameter([1, 3, 64, 64], np.float32, name="images")
    # Numbers of three bits can be stored, not computed.
    odd = layers.convert(layers.convert(pixels, "u3"), "f32")
    mean = layers.reduce_mean(odd, layers.constant(np.arange(4)), keep_dims=False)
    rows = layers.add(layers.constant(np.zeros((1, 5, 84), np.float32)), mean)
    openvino.save_model(openvino.Model([rows], [pixels], "w"), tmp_path / "w/w.xml")
    with pytest.raises(DetectorError, match=r"w\.xml: OpenVINO cannot run it: Unsupported operation of type: Convert"):
        YoloDetector("w", tmp_path).detect(np.zeros((64, 64, 3), np.uint8))


def test_ultralytics_leaves_the_way_images_are_opened_alone() -> None:
    from PIL import Image

    from ingest.ultralytics_offline import prepare_ultralytics

    prepare_ultralytics()
    assert Image.open.__module__ == "PIL.Image"


@pytest.mark.shared_data
def test_the_detector_is_not_tied_to_a_core(shared_data: Path) -> None:
    """As OpenVINO would have it by default, all workers to the first one."""
    left_behind = tied_threads()
    detector = YoloDetector(str(shared_data / "weights/yolov8n_int8_openvino_model"), shared_data)
    frame = np.zeros((48, 64, 3), np.uint8)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as in a worker
    try:
        detector.detect(frame)  # compiles it
    finally:
        cv2.setNumThreads(before)
    assert share_tied(lambda: [detector.detect(frame) for _ in range(200)], left_behind) < 0.01
