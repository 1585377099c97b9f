"""How tall a standing person is in a fixed camera's picture, by where their feet are.

On flat ground under a camera that is tilted little, the height in pixels grows linearly with the row of the feet
(Hoiem, Efros and Hebert 2006, "Putting objects in perspective", section 3). The line is learned from people who stand
alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEWEST = 12
_MOST = 600
_REFIT_EVERY = 10


class Stature:
    """Learns height = slope * foot_row + offset from samples; a robust line (iteratively reweighted least squares)."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._seen = 0
        self._slope = 0.0
        self._offset = 0.0
        self._known = False

    @property
    def known(self) -> bool:
        """Whether enough people were seen to tell."""
        return self._known

    def add(self, foot_row: float, height: float) -> None:
        """One frame of a person who stands or walks alone, whole in the picture."""
        self._seen += 1
        if len(self._samples) < _MOST:
            self._samples.append((foot_row, height))
        else:
            # Systematic replacement keeps old places in memory without random numbers.
            self._samples[(self._seen * 389) % _MOST] = (foot_row, height)
        if len(self._samples) >= _FEWEST and (self._seen % _REFIT_EVERY == 0 or not self._known):
            self._fit()

    def height(self, foot_row: float) -> float:
        """Expected height in pixels of somebody whose feet are in this row. Only when `known`."""
        return max(8.0, self._slope * foot_row + self._offset)

    def foot(self, head_row: float) -> float:
        """The row of the feet of somebody whose head top is in this row. Only when `known`."""
        # foot - (slope * foot + offset) = head
        return (head_row + self._offset) / max(0.05, 1 - self._slope)

    def _fit(self) -> None:
        samples = np.asarray(self._samples)
        foot, height = samples[:, 0], samples[:, 1]
        weight = np.ones(len(foot))
        slope, offset = 0.0, float(np.median(height))
        # Two made-up samples along the line through the median with the slope 0.6 hold the slope where all feet are in
        # about the same row.
        centre, middle = float(np.median(foot)), float(np.median(height))
        for _ in range(12):
            slope, offset = _weighted_line(
                np.append(foot, [centre - 40, centre + 40]),
                np.append(height, [middle - 24, middle + 24]),
                np.append(weight, [1.0, 1.0]),
            )
            error = np.abs(height - slope * foot - offset) / np.maximum(slope * foot + offset, 8)
            weight = 1 / np.maximum(error, 0.03)
            weight[error > 0.35] = 0
            if not weight.any():
                return
        self._slope, self._offset = float(np.clip(slope, 0.0, 0.92)), offset
        if slope != self._slope:
            self._offset = middle - self._slope * centre
        self._known = True


def _weighted_line(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    total = weight.sum()
    mean_x, mean_y = float((weight * x).sum() / total), float((weight * y).sum() / total)
    spread = float((weight * (x - mean_x) ** 2).sum())
    slope = float((weight * (x - mean_x) * (y - mean_y)).sum()) / max(spread, 1e-9)
    return slope, mean_y - slope * mean_x
