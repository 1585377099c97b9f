"""Are probabilities what they say? With labels, which calibration never saw.

Expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015) in bins of equal mass, and the Brier score (Brier
1950) as skill against always saying the base rate.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calr.calibration import matches_in_other_cameras
from models.matching.calibration import Calibration

BINS = 15

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sightings:
    """vectors (n, D) of length 1, cameras (n,), and who they show: identities (n,), -1 for nobody."""

    vectors: NDArray[np.float32]
    cameras: NDArray[np.int64]
    identities: NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """`said` and `true`: mean probability and share of right matches in each bin; `brier_skill` is above 0 where the
    probabilities say more than `base_rate` does, the share of right ones among all `matches`."""

    expected_calibration_error: float
    brier_skill: float
    base_rate: float
    matches: int
    said: list[float]
    true: list[float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def reliability(probability: Floats, right: NDArray[np.bool_], bins: int = BINS) -> Reliability | None:
    """Judge probabilities.

    Args:
        probability: (n,) in 0..1.
        right: (n,).
        bins: of equal mass, by probability; equal ones may lie in two.

    Returns:
        None where all matches are right, or none is (or there is none): then no probability can be judged.
    """
    base = float(right.mean()) if len(right) else 0.0
    if not 0.0 < base < 1.0:
        return None
    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), bins) if len(part)]
    said, true = ([float(values[part].mean()) for part in parts] for values in (probability, right))
    error = sum(len(part) * abs(p - y) for part, p, y in zip(parts, said, true, strict=True)) / len(right)
    brier = float(np.mean((probability - right) ** 2))
    return Reliability(float(error), 1.0 - brier / (base * (1.0 - base)), base, len(right), said, true)


def judge_matches(calibration: Calibration, queries: Sightings, gallery: Sightings) -> Reliability | None:
    """Judge the probabilities of every query's first matches in other cameras; None as in `reliability`.

    A match whose camera shows too few people to compare with has no probability and is left out.
    """
    found = matches_in_other_cameras(
        calibration.look_alikes, queries.vectors, queries.cameras, gallery.vectors, gallery.cameras
    ).known()
    asked = queries.identities[found.query]
    return reliability(
        calibration.probability(found.cosine, found.level), (gallery.identities[found.match] == asked) & (asked >= 0)
    )


def read_curves(files: Sequence[Path]) -> dict[str, Reliability]:
    """What report.json of sites and the output of `calr evaluate` say about probabilities, by file name without ending.

    Raises:
        ValueError: a file cannot be read, or says nothing about them.
    """
    curves: dict[str, Reliability] = {}
    for file in files:
        try:
            curves[file.stem] = Reliability(**json.loads(file.read_text(encoding="utf-8"))["calibration"])
        except (OSError, ValueError, TypeError, KeyError):
            raise ValueError(
                f"{file}: holds no judged calibration; name a report.json of a calibrated site with ground truth, or "
                "what `python -m calr evaluate --json` printed for a calibrated bundle"
            ) from None
    return curves


def draw_reliability(curves: Mapping[str, Reliability]) -> bytes:
    """Reliability curves side by side, by title, as PNG: on the diagonal, a probability is what it says."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(curves), 3.9), layout="constrained")
    for axis, (title, curve) in zip(np.atleast_1d(figure.subplots(1, len(curves))), curves.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
        axis.plot(curve.said, curve.true, color="#1f77b4", marker="o", markersize=4, linewidth=1.5)
        axis.set_title(
            f"{title}\nECE {curve.expected_calibration_error:.3f}, Brier skill {curve.brier_skill:.2f}",
            fontsize=9,
            loc="left",
        )
        axis.set_xlabel(f"probability ({curve.matches:,} matches in {len(curve.said)} bins)", fontsize=8)
        axis.set_ylabel("share that is right", fontsize=8)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=8)
        axis.grid(color="#eeeeee")
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
