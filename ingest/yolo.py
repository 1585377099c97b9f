"""People by an ultralytics YOLO: .pt and .onnx weights by ultralytics itself, OpenVINO ones by OpenVINO."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.detection import Detections, DetectorError
from ingest.openvino_yolo import OpenVinoYolo
from ingest.ultralytics_offline import cache_folder, prepare_ultralytics
from models.atomic import sha256_file

# ByteTrack's second association uses detections down to here; what starts a tracklet or becomes a crop scores higher.
LOWEST_SCORE = 0.1
# Of two boxes that overlap more, only the better survives. People walk in pairs, so not lower.
NMS_IOU = 0.6
_ASSET = re.compile(r"[A-Za-z0-9._-]+\.pt")


class YoloDetector:
    """Finds people with a YOLO that knows the class "person".

    Args:
        weights: a path (.pt, .onnx, or a folder of an OpenVINO export), a name ultralytics publishes (fetched once into
            $CALR_CACHE), either with `#sha256=<hex>` to pin a file's content.
        folder: what a relative path starts from.
        image_size: longer side the frame is scaled to; None: what the weights were exported for, else 640. Weights
            exported with a fixed size keep theirs.

    Raises:
        DetectorError: no such weights, or not those that were pinned.
    """

    def __init__(self, weights: str, folder: Path, *, image_size: int | None = None) -> None:
        path, _, pin = weights.partition("#")
        self.path = _locate(path, folder)
        self._image_size = image_size
        self._model: Any = None
        self._openvino: OpenVinoYolo | None = None
        self._person = 0
        self._sha256 = _content_hash(self.path)
        if pin:
            _check_pin(self.path, pin, self._sha256)

    @property
    def name(self) -> str:
        """ "yolo" and which weights."""
        return f"yolo:{self.path.name}"

    def fingerprint(self) -> str:
        """Content of the weights and the settings of this file."""
        return f"yolo-3:{self._sha256}:{self._image_size}:{LOWEST_SCORE}:{NMS_IOU}"

    def begin(self, preview: Iterable[NDArray[np.uint8]]) -> None:
        """Nothing is kept between frames."""

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """People in a frame (height, width, 3) uint8 BGR, scores from `LOWEST_SCORE` up.

        Raises:
            DetectorError: the weights do not load, or know no class "person".
        """
        if self.path.is_dir():
            if self._openvino is None:
                self._openvino = OpenVinoYolo(self.path)
            return self._openvino.detect(frame, LOWEST_SCORE, NMS_IOU)
        if self._model is None:
            self._load()
        size = {} if self._image_size is None else {"imgsz": self._image_size}
        result = self._model.predict(
            frame, conf=LOWEST_SCORE, iou=NMS_IOU, classes=[self._person], verbose=False, save=False, **size
        )[0]
        boxes = result.boxes
        return Detections(
            boxes.xyxy.cpu().numpy().astype(np.float32).reshape(-1, 4),
            boxes.conf.cpu().numpy().astype(np.float32).reshape(-1),
        )

    def _load(self) -> None:
        prepare_ultralytics()
        from ultralytics import YOLO

        try:
            model = YOLO(str(self.path), task="detect")
            # Exported weights are opened at the first prediction, so this is where wrong ones show.
            names = model.predict(np.zeros((64, 64, 3), np.uint8), verbose=False, save=False)[0].names
        except Exception as error:
            raise DetectorError(f"{self.path}: ultralytics cannot load these weights: {_first_line(error)}") from error
        person = [number for number, name in names.items() if name == "person"]
        if not person:
            known = ", ".join(list(names.values())[:5])
            raise DetectorError(
                f"{self.path}: knows no class 'person' (but {known}, ...); use a YOLO trained on people, exported by "
                "ultralytics so that it carries its class names"
            )
        self._person = person[0]
        self._model = model


def _locate(path: str, folder: Path) -> Path:
    found = (folder / Path(path).expanduser()).resolve()
    if found.exists():
        if found.is_dir():
            if not any(found.glob("*.xml")):
                raise DetectorError(f"{found}: a folder of detector weights must be an OpenVINO export with its .xml")
        elif found.suffix not in (".pt", ".onnx"):
            raise DetectorError(f"{found}: detector weights are .pt, .onnx or an OpenVINO folder")
        return found
    if _ASSET.fullmatch(path):
        return _fetch(path)
    raise DetectorError(f"{found}: no such detector weights; correct 'detector: weights' in site.yaml, or leave it out")


def _fetch(name: str) -> Path:
    cached = cache_folder() / name
    if cached.is_file():
        return cached
    prepare_ultralytics(online=True)
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    if name not in GITHUB_ASSETS_NAMES:
        raise DetectorError(
            f"'{name}': neither a file beside site.yaml nor a name ultralytics publishes (such as yolov8n.pt)"
        )
    try:
        attempt_download_asset(cached, progress=False, retry=1)
    except Exception as error:
        raise DetectorError(
            f"'{name}': cannot be fetched ({_first_line(error)}); fetch it where there is internet, put it at {cached} "
            "or beside site.yaml, and run this again"
        ) from error
    return cached


def _content_hash(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def _check_pin(path: Path, pin: str, content: str) -> None:
    key, _, wanted = pin.partition("=")
    if key != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", wanted):
        raise DetectorError(f"{path}#{pin}: a pin is written #sha256=<64 hex digits>")
    if path.is_dir():
        raise DetectorError(f"{path}: a folder cannot be pinned; pin a .pt or .onnx file")
    if wanted.lower() != content:
        raise DetectorError(f"{path}: its sha256 is {content}, not the pinned {wanted.lower()}; it was changed")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
