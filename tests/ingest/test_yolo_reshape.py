"""What is left of a network's places answers as before; anything else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino", reason="only the openvino extra has OpenVINO")
from ingest.openvino_yolo import without_bars  # noqa: E402
from ingest.yolo_reshape import STRIDES, reshape_yolo  # noqa: E402


def network(height: int, width: int, *, strides: tuple[int, ...] = STRIDES) -> Any:
    """A YOLO's head as ultralytics exports it, over average colours in place of a backbone: a place's answer comes from
    its own square alone, so whatever is cut off elsewhere must not change it."""
    from openvino import opset13 as ops

    rng = np.random.default_rng(7)
    given = ops.parameter([1, 3, height, width], np.float32)
    features, places, steps = [], [], []
    for stride in strides:
        pooled = ops.avg_pool(given, [stride, stride], [0, 0], [0, 0], [stride, stride], True)
        mixed = ops.convolution(
            pooled,
            ops.constant(rng.normal(size=(6, 3, 1, 1)).astype(np.float32)),
            [1, 1],
            [0, 0],
            [0, 0],
            [1, 1],
        )
        rows, columns = height // stride, width // stride
        features.append(ops.reshape(mixed, ops.constant(np.array([1, 6, -1])), False))
        y, x = np.mgrid[:rows, :columns] + 0.5
        places.append(np.stack([x.ravel(), y.ravel()]))
        steps.append(np.full(rows * columns, stride))
    count = sum(step.size for step in steps)
    joined = ops.reshape(ops.concat(features, 2), ops.constant(np.array([1, 3, 2, count])), False)
    joined = ops.reshape(joined, ops.constant(np.array([1, 6, count], np.int32)), False)
    distances, size, score = ops.split(joined, ops.constant(1), 3).outputs()
    centre = ops.add(ops.constant(np.concatenate(places, 1)[None].astype(np.float32)), distances)
    boxes = ops.multiply(
        ops.concat([centre, size], 1), ops.constant(np.concatenate(steps)[None, None].astype(np.float32))
    )
    return openvino.Model([ops.concat([boxes, score], 1)], [given])


def answer(model: Any, image: np.ndarray) -> np.ndarray:
    return np.asarray(openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0])


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 96), (32, 32), (128, 128)])
def test_the_places_left_answer_as_before(height: int, width: int) -> None:
    image = np.random.default_rng(1).random((1, 3, 128, 128), np.float32)
    before = answer(network(128, 128), image)
    model = network(128, 128)
    reshape_yolo(model, height, width)
    after = answer(model, np.ascontiguousarray(image[:, :, :height, :width]))
    kept = [
        base + row * (128 // stride) + column
        for base, stride in ((0, 8), (256, 16), (320, 32))
        for row in range(height // stride)
        for column in range(width // stride)
    ]
    assert after.shape == (1, 6, len(kept))
    np.testing.assert_allclose(after, before[:, :, kept], atol=1e-5)


def test_other_places_than_those_of_a_yolo_are_refused() -> None:
    with pytest.raises(ValueError, match="has 20 places, not the 21"):
        reshape_yolo(network(32, 32, strides=(8, 16)), 32, 32)


def test_a_graph_that_does_not_fit_together_is_refused() -> None:
    from openvino import opset13 as ops

    whole = network(64, 64)
    weights = ops.constant(np.ones((1, 6, 2, 42), np.float32))  # 84 places in another shape
    flat = ops.reshape(whole.get_results()[0].input_value(0), ops.constant(np.array([1, 6, 2, 42])), False)
    back = ops.reshape(ops.multiply(flat, weights), ops.constant(np.array([1, 6, -1])), False)
    with pytest.raises(ValueError, match="cannot be reshaped"):
        reshape_yolo(openvino.Model([back], whole.get_parameters()), 32, 64)


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        ((1920, 1080), (640, 384)),
        ((640, 480), (640, 480)),
        ((480, 640), (480, 640)),
        ((640, 640), (640, 640)),
        ((100, 3000), (32, 640)),
        ((3000, 1), (640, 32)),
        ((704, 576), (640, 544)),
    ],
)
def test_a_frame_gets_the_smallest_input_it_fits_in(frame: tuple[int, int], size: tuple[int, int]) -> None:
    assert without_bars(*frame, (640, 640)) == size
