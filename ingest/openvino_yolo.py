"""A YOLO in OpenVINO's format, run by OpenVINO itself.

ultralytics can run these, too, but converts every frame to 32-bit floats in Python and takes all cores for one request,
which two recordings at a time then fight over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from ingest.detection import Detections, DetectorError
from ingest.yolo_reshape import reshape_yolo

if TYPE_CHECKING:
    import openvino

_GREY = (114, 114, 114)  # what ultralytics pads frames with, in training and after


class OpenVinoYolo:
    """People in frames, one after the other.

    Args:
        folder: an export by ultralytics: the network with one output (1, 4 + classes, places), of which the first four
            rows are centre and size in pixels of its input, and `metadata.yaml` with the class names.

    Raises:
        DetectorError: it is not such an export, or knows no class "person".
    """

    def __init__(self, folder: Path) -> None:
        import openvino

        self._core = openvino.Core()
        try:
            metadata = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
            names = {int(number): str(name) for number, name in metadata["names"].items()}
            height, width = (int(side) for side in metadata["imgsz"])
            self._network, self._whole = next(folder.glob("*.xml")), (width, height)
            model = self._read()
            if list(model.input(0).shape) != [1, 3, height, width]:
                raise ValueError(
                    f"its input {list(model.input(0).shape)} is not the {[height, width]} of metadata.yaml"
                )
            shape = [int(side) for side in model.output(0).shape]
            if len(model.outputs) != 1 or len(shape) != 3 or shape[1] != 4 + len(names):
                raise ValueError(f"its output {shape} is not (1, {4 + len(names)}, places)")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, StopIteration) as error:
            raise DetectorError(
                f"{folder}: not a YOLO as ultralytics exports it to OpenVINO: {_what_it_says(error)}"
            ) from None
        people = [number for number, name in names.items() if name == "person"]
        if not people:
            known = ", ".join(list(names.values())[:5])
            raise DetectorError(f"{folder}: knows no class 'person' (but {known}, ...); use a YOLO trained on people")
        self._person = people[0]
        # By the size asked for: the size it got, and the network compiled for it.
        self._compiled: dict[tuple[int, int], tuple[tuple[int, int], openvino.InferRequest]] = {}

    def detect(self, frame: NDArray[np.uint8], lowest: float, most_overlap: float) -> Detections:
        """People in a frame (height, width, 3) uint8 BGR.

        Args:
            frame: to look at.
            lowest: smallest score of what is returned.
            most_overlap: of two boxes that overlap more (IoU), only the better is returned.
        """
        wanted = without_bars(frame.shape[1], frame.shape[0], self._whole)
        if wanted not in self._compiled:
            self._compiled[wanted] = self._compile(wanted)
        size, request = self._compiled[wanted]
        padded, scale, (left, top) = letterbox(frame, size)
        rows = np.asarray(request.infer({0: padded[None]}, share_inputs=True)[0])[0]
        scores = rows[4 + self._person]
        # Boxes of other classes do not compete with people's, but a place is the person's only if that fits best.
        places = np.flatnonzero(scores >= lowest)
        places = places[scores[places] >= rows[4:, places].max(axis=0)]
        centre, extent = rows[:2, places].T, rows[2:4, places].T
        corners = np.concatenate([centre - extent / 2, extent], axis=1)
        kept = cv2.dnn.NMSBoxes(corners.tolist(), scores[places].tolist(), lowest, most_overlap)
        chosen = places[np.asarray(kept, np.int64).reshape(-1)]
        centre, extent = rows[:2, chosen].T, rows[2:4, chosen].T
        boxes = (np.concatenate([centre - extent / 2, centre + extent / 2], axis=1) - [left, top, left, top]) / scale
        return Detections(boxes.astype(np.float32), scores[chosen].astype(np.float32))

    def _read(self) -> openvino.Model:
        """The network, for the input it was exported for."""
        model = self._core.read_model(self._network)
        if model.is_dynamic():
            model.reshape([1, 3, self._whole[1], self._whole[0]])
        return model

    def _compile(self, size: tuple[int, int]) -> tuple[tuple[int, int], openvino.InferRequest]:
        """The network for an input of (width, height), or for that of the export where it cannot be reshaped."""
        model = self._read()
        if size != self._whole:
            try:
                reshape_yolo(model, size[1], size[0])
            except ValueError:
                size, model = self._whole, self._read()
        # As many threads as the worker pool gave this process. Tied to cores, as is the default, those of every worker
        # would run on the same ones.
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": max(1, cv2.getNumThreads()),
            "ENABLE_CPU_PINNING": False,
        }
        try:
            return size, self._core.compile_model(takes_frames(model), "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise DetectorError(f"{self._network}: OpenVINO cannot run it: {_what_it_says(error)}") from None


def _what_it_says(error: Exception) -> str:
    """The first line of a message that is not about a place in OpenVINO's own source."""
    lines = (line.strip() for line in str(error).splitlines())
    told = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return (told or [type(error).__name__])[0][:300]


def takes_frames(model: openvino.Model) -> openvino.Model:
    """The network with its preprocessing: it takes (1, height, width, 3), uint8 BGR."""
    import openvino
    from openvino.preprocess import ColorFormat, PrePostProcessor

    steps = PrePostProcessor(model)
    given = steps.input().tensor()
    given.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC")).set_color_format(ColorFormat.BGR)
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).convert_color(ColorFormat.RGB).scale(255.0)
    return steps.build()


def without_bars(width: int, height: int, whole: tuple[int, int]) -> tuple[int, int]:
    """The smallest input (width, height) that a frame fits in at the scale it has in the `whole` one.

    Both sides are multiples of 32, the coarsest stride of the network, and the padding left is less than that.
    """
    scale = min(whole[0] / width, whole[1] / height)
    sides = zip((width, height), whole, strict=True)
    across, down = (min(limit, -(-max(1, round(side * scale)) // 32) * 32) for side, limit in sides)
    return across, down


def letterbox(frame: NDArray[np.uint8], size: tuple[int, int]) -> tuple[NDArray[np.uint8], float, tuple[int, int]]:
    """The frame scaled into (width, height) between grey bars, the scale, and where its left upper corner is then."""
    height, width = frame.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    scaled = (round(width * scale), round(height * scale))
    if scaled != (width, height):
        frame = np.asarray(cv2.resize(frame, scaled, interpolation=cv2.INTER_LINEAR), np.uint8)
    left, top = ((whole - part) // 2 for whole, part in zip(size, scaled, strict=True))
    right, bottom = size[0] - scaled[0] - left, size[1] - scaled[1] - top
    padded = cv2.copyMakeBorder(frame, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_GREY)
    return np.asarray(padded, np.uint8), scale, (left, top)
