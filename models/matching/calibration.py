"""From a cosine to the probability that two sightings in different cameras show one person.

A cosine alone says little: some people have many look-alikes, and some cameras make everybody look alike. What tells is
how far a match stands out from the *look-alike level*: what else its own camera shows of that kind. Within one camera a
person is seen a few times; the ranks after those, by similarity to the query, are other people, and their mean cosine
is the level. With margin = cosine - level,

    probability = 1 / (1 + exp(-(slope · margin + intercept)))

This is Platt scaling (Platt, "Probabilistic outputs for support vector machines", 1999) of scores normalised by a
cohort (Auckenthaler, Carey and Lloyd-Thomas, "Score normalization for text-independent speaker verification systems",
2000).

The level depends on the query and the camera, not on what a search was narrowed to: filters do not change a
probability. Where a gallery grows the level rises, and the probability of the same cosine falls: rightly so if it grew
by other people, and on the safe side if it did by the same ones. Where it shrinks, the level stays about what it was.

Fitted without labels by `calr.calibration`; travels in a model bundle as calibration.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA = 1

Floats = NDArray[np.float64]


class CalibrationError(ValueError):
    """A calibration that cannot be used. The message names the field."""


@dataclass(frozen=True)
class LookAlikes:
    """Where a query's look-alikes in a camera are found.

    Attributes:
        first_rank, last_rank: by similarity among the camera's, counted from 1, both included.
        depth: how many of the query's nearest, over all cameras, are looked through.
        camera_size: mean number of vectors of a camera for which these were chosen.
    """

    first_rank: int
    last_rank: int
    depth: int
    camera_size: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.camera_size) and self.camera_size > 0):
            raise CalibrationError(f"camera_size must be above 0, got {self.camera_size}")
        if not 1 <= self.first_rank <= self.last_rank <= self.depth:
            raise CalibrationError(
                "look_alikes must have 1 <= first_rank <= last_rank <= depth, got "
                f"{self.first_rank}, {self.last_rank} and {self.depth}"
            )

    def within(self, camera_size: float) -> LookAlikes:
        """The same look-alikes in a gallery of another size.

        In a smaller one they lie at smaller ranks. In a larger one ranks stay: whether it has more people or more
        of the same ones nobody can tell, and staying makes no match surer than it is.
        """
        share = min(1.0, camera_size / self.camera_size)
        last = max(1, round(self.last_rank * share))
        first = min(last, max(1, round(self.first_rank * share)))
        return LookAlikes(first, last, max(last, round(self.depth * share)), self.camera_size)

    def levels(self, nearest: NDArray[np.floating], cameras: NDArray[np.integer], asked: NDArray[np.integer]) -> Floats:
        """A query's look-alike level in some cameras.

        Args:
            nearest: (n,) cosines of the query's nearest over all cameras, best first; n = `depth`, fewer only where
                there are no more.
            cameras: (n,) camera of each.
            asked: (k,) cameras.

        Returns:
            (k,), NaN where a camera shows too few to tell. A camera that does not fill its ranks within `depth` counts
            as if it went on at the last cosine, which is no lower than it does: the probability will not be too high.
        """
        levels = np.full(len(asked), np.nan)
        for camera in np.unique(asked):
            own = nearest[cameras == camera].astype(np.float64)
            if len(nearest) >= self.depth:
                own = np.append(own, np.full(max(0, self.last_rank - len(own)), nearest[-1]))
            look_alikes = own[self.first_rank - 1 : self.last_rank]
            if len(look_alikes):
                levels[asked == camera] = look_alikes.mean()
        return levels


@dataclass(frozen=True)
class Calibration:
    """See the module.

    Attributes:
        slope: above 0: the higher the cosine, the higher the probability.
        intercept: log-odds of a match that does not stand out at all.
        look_alikes: where the level is taken from.
        queries, expected_right: what it was fitted on: how many queries, and the share of their first matches in other
            cameras that was taken to be right.
    """

    slope: float
    intercept: float
    look_alikes: LookAlikes
    queries: int
    expected_right: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope > 0):
            raise CalibrationError(f"slope must be above 0, got {self.slope}")
        if not math.isfinite(self.intercept):
            raise CalibrationError(f"intercept must be finite, got {self.intercept}")

    def probability(self, cosine: NDArray[np.floating], level: NDArray[np.floating]) -> Floats:
        """The probability that match and query show one person.

        Args:
            cosine: of the query and each match.
            level: the look-alike level of each match's camera, alike in shape.

        Returns:
            In 0..1, NaN where the level is.
        """
        log_odds = self.slope * (np.asarray(cosine, np.float64) - level) + self.intercept
        # The same as 1 / (1 + exp(-x)), without overflow.
        return 0.5 * (1.0 + np.tanh(0.5 * log_odds))

    def as_json(self) -> dict[str, Any]:
        """What calibration.json holds."""
        return {"schema": SCHEMA, "calibrated": True, **asdict(self)}


def calibration_json(calibration: Calibration | None) -> dict[str, Any]:
    """What calibration.json holds; None is a model whose cosines cannot be read as probabilities."""
    return {"schema": SCHEMA, "calibrated": False} if calibration is None else calibration.as_json()


def read_calibration(record: Mapping[str, Any]) -> Calibration | None:
    """What calibration.json says; None for an uncalibrated model.

    Raises:
        CalibrationError: another schema, or a field that is missing or wrong.
    """
    if record.get("schema") != SCHEMA:
        raise CalibrationError(f"schema {record.get('schema')!r}, this version reads {SCHEMA}; update the product")
    if type(record.get("calibrated")) is not bool:
        raise CalibrationError(f"field calibrated must be true or false, got {record.get('calibrated')!r}")
    if not record["calibrated"]:
        return None
    ranks = record.get("look_alikes")
    if not isinstance(ranks, Mapping):
        raise CalibrationError(f"field look_alikes must be an object, got {ranks!r}")
    return Calibration(
        slope=_number(record, "slope"),
        intercept=_number(record, "intercept"),
        look_alikes=LookAlikes(
            first_rank=_count(ranks, "first_rank"),
            last_rank=_count(ranks, "last_rank"),
            depth=_count(ranks, "depth"),
            camera_size=_number(ranks, "camera_size"),
        ),
        queries=_count(record, "queries"),
        expected_right=_number(record, "expected_right"),
    )


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise CalibrationError(f"field {name} must be a number, got {value!r}")
    return float(value)


def _count(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name)
    if type(value) is not int:
        raise CalibrationError(f"field {name} must be a whole number, got {value!r}")
    return value
