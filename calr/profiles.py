"""Profiles: named sets of training settings. The only place where the method's numbers live.

A part that is left out is None; nothing else in the package asks whether a part is on.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

METHOD = 3
"""Raised when the method changes so much that an old run is no longer the answer to the same question."""


@dataclass(frozen=True)
class LocalClustering:
    """Intra-camera clusters: k1, k2 of the k-reciprocal Jaccard distance, and the cut on average linkage.

    Pairwise F on Market-1501's cameras at cuts 0.3 / 0.4 / 0.5 / 0.6 / 0.7, OSNet x0.25 from MSMT17, before training:
    0.55 / 0.64 / 0.68 / 0.68 / 0.65, and after adapting it 0.59 / 0.67 / 0.69 / 0.69 / 0.65; tracklets of a rendered
    site at 0.3 / 0.5: 0.81 / 0.86. Jaccard distance compares ranks, so the cut carries over between networks.
    """

    max_distance: float = 0.5
    k1: int = 15
    k2: int = 4


@dataclass(frozen=True)
class NearestNeighbours:
    """The paper's graph: k nearest of all nodes with cosine >= min_similarity."""

    k: int = 15
    min_similarity: float = 0.5


@dataclass(frozen=True)
class CameraBalancedNeighbours:
    """Mutual nearest nodes camera by camera, on camera-centred features; the numbers follow from the data
    (`calr.inter_camera.neighbour_counts`, `similarity_cut`)."""


@dataclass(frozen=True)
class Infomap:
    """Global clusters by Infomap over the neighbour graph, as in the paper."""


@dataclass(frozen=True)
class Dbscan:
    """Global clusters by DBSCAN on Jaccard distance, the classic alternative; the numbers are those of SpCL (NeurIPS
    2020)."""

    eps: float = 0.6
    min_samples: int = 4
    k1: int = 30
    k2: int = 6


@dataclass(frozen=True)
class Splitting:
    """Global clusters are split where members are less similar on average than linked nodes must be: the cut is the
    graph's."""


@dataclass(frozen=True)
class Refinement:
    """Self-paced label refinement: share(e) = start + (1 - start)·min(1, e / full_at) of the doubted nodes goes.

    `pivots` is "camera" for one in every (cluster, camera), or "published" for the published code's rule.
    """

    start: float = 0.5
    full_at: int = 10
    pivots: Literal["camera", "published"] = "camera"


@dataclass(frozen=True)
class Alignment:
    """Camera alignment in the first `epochs` epochs; `weight` of its loss, `strength` of the reversed gradient."""

    epochs: int = 5
    weight: float = 0.1
    strength: float = 1.0


@dataclass(frozen=True)
class Proxies:
    """A loss over camera-aware proxies beside the one over clusters (`calr.camera_proxies`): weight, temperature, and
    how many of the most similar other proxies push."""

    weight: float = 0.5
    temperature: float = 0.07
    hardest: int = 50


@dataclass(frozen=True)
class Augmentation:
    """See `calr.augment.Augment`. `pad` is for 256 pixels of height and scales with it."""

    pad: int = 10
    colour: float = 0.15
    erase: float = 0.5


@dataclass(frozen=True)
class Stage:
    """Length, batches and step sizes of one stage.

    Attributes:
        epochs: clustering and training rounds.
        passes: an epoch shows passes × N crops, so that small sites are not over-trained,
        min_iterations, max_iterations: but never fewer or more batches than this.
        clusters, crops: a batch has `clusters` × `crops` images.
        lr, lr_step: Adam's step size, × 0.1 every lr_step epochs.
        patience: stop when the silhouette has not improved for so many epochs; None = run all.
    """

    epochs: int
    passes: float
    min_iterations: int
    max_iterations: int
    clusters: int = 16
    crops: int = 4
    lr: float = 3.5e-4
    lr_step: int = 20
    patience: int | None = None

    @property
    def batch(self) -> int:
        """Images in a batch."""
        return self.clusters * self.crops

    def iterations(self, crops: int) -> int:
        """Batches of one epoch over a set of `crops`."""
        wanted = -(-crops * self.passes // self.batch)
        return int(min(max(wanted, self.min_iterations), self.max_iterations))


@dataclass(frozen=True)
class Profile:
    """Everything about training that is not in site.yaml.

    Attributes:
        name: what site.yaml calls it.
        intra, inter: the two stages; intra None leaves the first stage out (then refinement must be None too).
        local: clustering inside a camera.
        graph: neighbour graph for global clusters and for the scores of nodes.
        clustering: how global clusters are found.
        splitting: of global clusters that are chains; None leaves it out.
        min_cluster_crops: smaller global clusters are not trained on (the paper drops 4 or fewer); less where people
            leave few crops (`calr.infomap_clusters.smallest_cluster`).
        refinement, alignment: None leaves the part out.
        proxies: None leaves the part out.
        entropy_warmup: epochs before clusters are weighted by camera entropy; None = never weighted.
        spare_disjoint_cameras: global clusters without a common camera are not pushed apart (`ClusterMemory`).
        temperature, momentum: of the cluster memory.
        weight_decay: Adam's.
        augmentation: of training images.
        feature_batch: images at once when extracting features.
        intra_per_camera: stage 1 as published, an encoder for every camera (`calr.per_camera_stage`), not one for all.
        ghost_batch: batch normalisation over so many images at a time (`calr.ghost_batch_norm`); None = the batch.
    """

    name: str
    intra: Stage | None
    inter: Stage
    local: LocalClustering = field(default_factory=LocalClustering)
    graph: CameraBalancedNeighbours | NearestNeighbours = field(default_factory=CameraBalancedNeighbours)
    clustering: Infomap | Dbscan = field(default_factory=Infomap)
    splitting: Splitting | None = field(default_factory=Splitting)
    min_cluster_crops: int = 5
    refinement: Refinement | None = field(default_factory=Refinement)
    alignment: Alignment | None = field(default_factory=Alignment)
    proxies: Proxies | None = None
    entropy_warmup: int | None = 5
    spare_disjoint_cameras: bool = True
    temperature: float = 0.05
    momentum: float = 0.1
    weight_decay: float = 5e-4
    augmentation: Augmentation = field(default_factory=Augmentation)
    feature_batch: int = 64
    ghost_batch: int | None = None
    intra_per_camera: bool = False

    def __post_init__(self) -> None:
        if self.intra is None and self.refinement is not None:
            raise ValueError(f"profile {self.name}: refinement needs the local clusters of the intra-camera stage")

    def as_json(self) -> dict[str, Any]:
        """All settings, for the run's id and its record."""
        kinds = {
            name: {"kind": type(part).__name__, **asdict(part)}
            for name, part in (("graph", self.graph), ("clustering", self.clustering))
        }
        return {**asdict(self), **kinds}


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="cpu-quick",
            intra=Stage(epochs=4, passes=1.0, min_iterations=10, max_iterations=40, patience=1),
            inter=Stage(epochs=12, passes=1.0, min_iterations=10, max_iterations=40, lr_step=8),
            refinement=Refinement(start=0.5, full_at=4),
            alignment=Alignment(epochs=4),
            entropy_warmup=2,
        ),
        # Proves that everything runs, in seconds; too short to learn much.
        Profile(
            name="cpu-tiny",
            intra=Stage(epochs=2, passes=1.0, min_iterations=2, max_iterations=3, clusters=4, crops=4, patience=1),
            inter=Stage(epochs=3, passes=1.0, min_iterations=2, max_iterations=3, clusters=4, crops=4, lr_step=2),
            refinement=Refinement(start=0.5, full_at=2),
            alignment=Alignment(epochs=1),
            entropy_warmup=1,
            ghost_batch=8,
        ),
        # For benchmarks on 2 cores: 12 epochs of 40 batches of 128.
        Profile(
            name="cpu-bench",
            intra=Stage(epochs=4, passes=1e9, min_iterations=40, max_iterations=40, lr_step=8),
            inter=Stage(epochs=12, passes=1e9, min_iterations=40, max_iterations=40, crops=8, lr_step=8),
            refinement=Refinement(start=0.5, full_at=4),
            alignment=Alignment(epochs=4),
            proxies=Proxies(),
            entropy_warmup=2,
        ),
        # The same with twelve hundred more batches and twice as many looks at the clusters: about an hour on 2 cores.
        Profile(
            name="cpu-hour",
            intra=Stage(epochs=6, passes=1e9, min_iterations=40, max_iterations=40, lr_step=10),
            inter=Stage(epochs=24, passes=1e9, min_iterations=90, max_iterations=90, crops=8, lr_step=10),
            refinement=Refinement(start=0.5, full_at=8),
            alignment=Alignment(epochs=8),
            proxies=Proxies(),
            entropy_warmup=4,
        ),
        # The paper's schedule (20 × 100 batches of 64, then 50 × 400 of 256), with this project's graph and pivots.
        Profile(
            name="gpu-paper",
            intra=Stage(epochs=20, passes=1e9, min_iterations=100, max_iterations=100, patience=3),
            inter=Stage(epochs=50, passes=1e9, min_iterations=400, max_iterations=400, crops=16),
            refinement=Refinement(start=0.5, full_at=25),
            alignment=Alignment(epochs=10),
            proxies=Proxies(),
            feature_batch=256,
            ghost_batch=64,
        ),
    )
}


def find_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]
