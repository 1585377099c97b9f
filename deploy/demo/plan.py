"""The demo site's map: one room per camera, three in a row, every camera at the lower wall looking up the picture.

The scenes have no common ground; walkers take some seconds from each to the next, so rooms side by side are true
enough.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

COLUMNS = 3
ROOM = (320, 240)  # width, height in pixels
MARGIN = 24
PAPER, WALL, WORDS = (250, 250, 250), (120, 110, 100), (90, 80, 70)


def _grid(cameras: int) -> tuple[int, int]:
    return min(cameras, COLUMNS), math.ceil(cameras / COLUMNS)


def position(number: int, cameras: int) -> tuple[float, float]:
    """Where camera `number` (from 0) of so many hangs, x and y in fractions of the plan."""
    columns, rows = _grid(cameras)
    return round((number % COLUMNS + 0.5) / columns, 4), round((number // COLUMNS + 0.88) / rows, 4)


def draw_plan(cameras: int) -> NDArray[np.uint8]:
    """The plan, (height, width, 3) uint8 BGR."""
    columns, rows = _grid(cameras)
    plan = np.full((rows * ROOM[1], columns * ROOM[0], 3), PAPER, np.uint8)
    for number in range(cameras):
        left, top = number % COLUMNS * ROOM[0], number // COLUMNS * ROOM[1]
        right, bottom = left + ROOM[0], top + ROOM[1]
        cv2.rectangle(plan, (left + MARGIN, top + MARGIN), (right - MARGIN, bottom - MARGIN), WALL, 3, cv2.LINE_AA)
        middle = (top + bottom) // 2
        for door in (left + MARGIN, right - MARGIN):
            cv2.line(plan, (door, middle - 26), (door, middle + 26), PAPER, 7)
        place = (left + MARGIN + 14, top + MARGIN + 32)
        cv2.putText(plan, f"room {number + 1}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, WORDS, 1, cv2.LINE_AA)
    return plan
