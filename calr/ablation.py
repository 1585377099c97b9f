"""The rows of docs/accuracy.md: the method with parts left out. A row is a change of a profile and nothing else.

All rows share graph, thresholds, budget and step sizes. The first rows add the paper's parts one after the other; the
ones after "full" each change one thing about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from calr.profiles import Dbscan, NearestNeighbours, Profile, Proxies, Refinement

DIRECT = "direct"
"""The row without any training: the start weights as they are."""


@dataclass(frozen=True)
class Row:
    """One row: what it is called, what it says to a reader, and what it makes of a profile."""

    name: str
    says: str
    change: Callable[[Profile], Profile]


def _bare(profile: Profile) -> Profile:
    return replace(
        profile,
        intra=None,
        refinement=None,
        alignment=None,
        entropy_warmup=None,
        proxies=None,
        splitting=None,
        spare_disjoint_cameras=False,
    )


def _with_refinement(profile: Profile, refinement: Refinement) -> Profile:
    return replace(_bare(profile), intra=profile.intra, refinement=refinement)


def _schedule(profile: Profile) -> Refinement:
    return profile.refinement or Refinement()


def _self_paced(profile: Profile) -> Profile:
    return _with_refinement(profile, _schedule(profile))


ROWS = {
    row.name: row
    for row in (
        Row(DIRECT, "start weights, no training", lambda profile: profile),
        Row("baseline", "inter-camera stage alone, clusters as found", _bare),
        Row(
            "one-pivot",
            "+ joint intra-camera stage and refinement, the published one pivot per cluster",
            lambda profile: _with_refinement(profile, Refinement(start=1.0, pivots="published")),
        ),
        Row(
            "pivots",
            "+ a pivot per cluster and camera instead",
            lambda profile: _with_refinement(profile, Refinement(start=1.0)),
        ),
        Row("self-paced", "+ self-paced discarding", _self_paced),
        Row(
            "alignment",
            "+ camera alignment",
            lambda profile: replace(_self_paced(profile), alignment=profile.alignment),
        ),
        Row(
            "paper",
            "+ camera-entropy weights: every part of the paper",
            lambda profile: replace(
                _self_paced(profile), alignment=profile.alignment, entropy_warmup=profile.entropy_warmup
            ),
        ),
        Row("full", "the profile as it is", lambda profile: profile),
        Row("full, plain k=15 graph", "the paper's graph", lambda profile: replace(profile, graph=NearestNeighbours())),
        Row(
            "full, plain k=10 graph",
            "the paper's graph with the k that suits these features",
            lambda profile: replace(profile, graph=NearestNeighbours(k=10)),
        ),
        Row(
            "baseline, plain k=10 graph",
            "the baseline on the graph of the row above",
            lambda profile: replace(_bare(profile), graph=NearestNeighbours(k=10)),
        ),
        Row(
            "self-paced, plain k=10 graph",
            "refinement where the graph merges more people",
            lambda profile: replace(_self_paced(profile), graph=NearestNeighbours(k=10)),
        ),
        Row(
            "baseline, proxies",
            "the baseline with a loss over camera-aware proxies beside the one over clusters",
            lambda profile: replace(_bare(profile), proxies=Proxies()),
        ),
        Row("full, no proxies", "without camera-aware proxies", lambda profile: replace(profile, proxies=None)),
        Row(
            "baseline, DBSCAN",
            "the baseline with DBSCAN on Jaccard distance in place of Infomap",
            lambda profile: replace(_bare(profile), clustering=Dbscan()),
        ),
        Row("full, DBSCAN", "DBSCAN in place of Infomap", lambda profile: replace(profile, clustering=Dbscan())),
        Row(
            "full, stage 1 per camera",
            "an encoder for every camera in stage 1, as published",
            lambda profile: replace(profile, intra_per_camera=profile.intra is not None),
        ),
        Row("full, no splitting", "chained clusters stay", lambda profile: replace(profile, splitting=None)),
        Row(
            "full, nothing spared",
            "clusters without a common camera are pushed apart, too",
            lambda profile: replace(profile, spare_disjoint_cameras=False),
        ),
        Row("full, no alignment", "without camera alignment", lambda profile: replace(profile, alignment=None)),
        Row(
            "full, no entropy weights",
            "all clusters count alike",
            lambda profile: replace(profile, entropy_warmup=None),
        ),
    )
}
