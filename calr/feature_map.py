"""Maps of the features, coloured by camera: does a person lie near themselves in other cameras, or does every camera
form an island of its own? (CALR figure 1.) Drawn with t-SNE (van der Maaten and Hinton, JMLR 2008)."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.matching.neighbours import nearest_others

MOST_POINTS = 1000
"""t-SNE of so many takes about five seconds on one core, and more points do not show more."""


@dataclass(frozen=True)
class Named:
    """Features of the same crops under a name ("before training"); (n, D), L2-normalised."""

    name: str
    features: NDArray[np.float32]


def sample_nodes(node: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """One crop for each of at most `MOST_POINTS` nodes drawn at random; node (N,) -> crop indices, sorted."""
    _, first = np.unique(node, return_index=True)
    if len(first) > MOST_POINTS:
        first = np.random.default_rng(seed).choice(first, MOST_POINTS, replace=False)
    return np.sort(first)


def same_camera_neighbours(features: NDArray[np.float32], camera: NDArray[np.int64]) -> float:
    """Share of crops whose nearest other crop was taken by the same camera. features (n, D), n > 1; camera (n,)."""
    _, nearest = nearest_others(features, 1)
    return float((camera[nearest[:, 0]] == camera).mean())


def draw_feature_maps(maps: list[Named], camera: NDArray[np.int64], camera_ids: list[str], seed: int = 0) -> bytes:
    """A map beside the other, as PNG.

    Args:
        maps: what to draw; the same crops in each.
        camera: (n,) camera of each crop, n > 3.
        camera_ids: names of the cameras.
        seed: of the layout.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE  # type: ignore[import-untyped, unused-ignore]

    figure = Figure(figsize=(5.5 * len(maps), 5.4), layout="constrained")
    # As many colours as can be told apart; with more cameras a colour stands for several.
    colours = colormaps["tab10" if len(camera_ids) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for axis, one in zip(np.atleast_1d(figure.subplots(1, len(maps))), maps, strict=True):
        layout = TSNE(
            perplexity=min(30, (len(camera) - 1) / 3), metric="cosine", init="pca", random_state=seed
        ).fit_transform(one.features)
        for number, name in enumerate(camera_ids):
            here = camera == number
            axis.scatter(*layout[here].T, s=9, color=colours[number % len(colours)], label=name, linewidths=0)
        share = same_camera_neighbours(one.features, camera)
        axis.set_title(f"{one.name}: nearest crop is of the same camera for {share:.0%}", fontsize=10, loc="left")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color("#dddddd")
    if len(camera_ids) <= len(colours):
        figure.legend(
            *axis.get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(10, len(camera_ids)),
            frameon=False,
            fontsize=8,
            markerscale=2,
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
