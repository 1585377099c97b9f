"""A YOLO that was exported for a square, made to look at frames that are not.

Most of a network's work on a 16:9 frame in a square goes into grey bars. ultralytics leaves them out where it runs the
network itself; an export has its places as numbers in the graph, which can be cut down to those that are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import openvino

# Pixels from one place to the next in the three grids of every ultralytics YOLO without anchors (v8 and later).
STRIDES = (8, 16, 32)


def reshape_yolo(model: openvino.Model, height: int, width: int) -> None:
    """Make the network take an input of (1, 3, height, width), in place.

    Args:
        model: with one input (1, 3, H, W) and one output (1, 4 + classes, places).
        height, width: multiples of 32, at most H and W.

    Raises:
        ValueError: the graph is not one whose places are known; the model is of no use any more.
    """
    import openvino
    from openvino import opset13

    whole_height, whole_width = (int(side) for side in model.input(0).shape[2:])
    kept, places = _upper_left((whole_height, whole_width), (height, width))
    if places != int(model.output(0).shape[2]):
        raise ValueError(f"it has {int(model.output(0).shape[2])} places, not the {places} of strides {STRIDES}")
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant":
            continue
        values, shape = node.get_data(), [int(side) for side in node.get_output_shape(0)]
        if places in shape:  # where the places are, and their strides
            values = np.take(values, kept, axis=shape.index(places))
        elif node.get_element_type().is_integral() and len(shape) == 1 and places in values:  # what to reshape to
            values = np.where(values == places, len(kept), values)
        else:
            continue
        cut = opset13.constant(values, dtype=node.get_element_type())
        for user in node.output(0).get_target_inputs():
            user.replace_source_output(cut.output(0))
    # `model.reshape` would check the graph before it changes the input.
    model.get_parameters()[0].set_partial_shape(openvino.PartialShape([1, 3, height, width]))
    try:
        model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        raise ValueError(f"it cannot be reshaped: {str(error).strip().splitlines()[0]}") from None


def _upper_left(whole: tuple[int, int], part: tuple[int, int]) -> tuple[NDArray[np.int64], int]:
    """The numbers of the places in the upper left part, (n,), and how many places there are in all."""
    kept, count = [], 0
    for stride in STRIDES:
        rows, columns = (side // stride for side in whole)
        grid = np.arange(count, count + rows * columns).reshape(rows, columns)
        kept.append(grid[: part[0] // stride, : part[1] // stride].ravel())
        count += rows * columns
    return np.concatenate(kept), count
