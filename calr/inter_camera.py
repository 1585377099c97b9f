"""Stage 2, inter-camera training (CALR sections 3.2 to 3.5).

Every epoch: features -> neighbour graph over nodes -> Infomap -> clusters too small dropped -> label refinement by
pivots -> cluster memory with camera-entropy weights, and camera alignment in the early epochs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calr.camera_alignment import CameraClassifier
from calr.camera_entropy import entropy_weights
from calr.camera_proxies import CameraProxies
from calr.checkpoint import module_tensors, optimiser_tensors, restore_module, restore_optimiser
from calr.cluster_memory import ClusterMemory, cluster_cameras, cluster_centroids
from calr.cluster_quality import cluster_quality
from calr.cluster_splitting import split_clusters
from calr.data_parallel import Found, agree
from calr.dbscan_clusters import dbscan_clusters
from calr.features import extract_together
from calr.infomap_clusters import drop_small_clusters, infomap_clusters, renumber, smallest_cluster
from calr.intra_camera import (
    LocalClusters,
    Progress,
    find_local_clusters,
    local_tensors,
    make_augment,
    restore_local,
)
from calr.neighbour_graph import (
    Links,
    centre_per_camera,
    mutual_links_per_camera,
    nearest_links,
    node_features,
)
from calr.precision import Precision
from calr.profiles import CameraBalancedNeighbours, Dbscan, NearestNeighbours, Profile, Refinement
from calr.refinement import camera_pivots, discard_share, node_scores, published_pivots, refine
from calr.sampler import BalancedBatches
from calr.silhouette import silhouette
from calr.training_loop import (
    AlignmentTerm,
    ContrastiveTerm,
    ProxyTerm,
    Term,
    adam,
    decayed_lr,
    epoch_seed,
    set_lr,
    train_epoch,
)
from calr.training_pass import training_pass
from calr.training_set import TrainingSet
from models.reid import ReidNet


def neighbour_counts(m: float) -> tuple[int, int]:
    """How many neighbours a node gets in its own camera and in each other one: (own, other).

    A person leaves m nodes in a camera. own = round(1.5·m), at least 2; other = round(0.75·m), at least 1. Tracklets
    typically have m = 1.3 -> (2, 1); Market-1501's single crops m = 2.8 -> (4, 2), pairwise F 0.62 before training
    (OSNet x0.25 from MSMT17) where the paper's k = 15 gives 0.41.
    """
    return max(2, round(1.5 * m)), max(1, round(0.75 * m))


def similarity_cut(features: NDArray[np.float32], camera: NDArray[np.int64], seed: int, pairs: int = 200_000) -> float:
    """Similarity below which nodes are not linked: min(0.5, median + 3·(median - 16th percentile)) over random pairs of
    nodes from different cameras.

    Nearly all of those are different people, and the lower half all the more, so the spread is taken from there; three
    of it is more than different people usually reach. 0.5 is the paper's cut: some start weights spread people so far
    that the rule alone would cut true pairs.

    Args:
        features: (M, D) camera-centred, L2-normalised.
        camera: (M,).
        seed: of the sample.
        pairs: size of the sample.

    Returns:
        The cut; 0 when there is one camera only.
    """
    draw = np.random.default_rng(seed)
    first, second = draw.integers(0, len(features), (2, pairs))
    other = camera[first] != camera[second]
    if not other.any():
        return 0.0
    similarity = np.einsum("nd,nd->n", features[first[other]], features[second[other]], dtype=np.float64)
    low, middle = np.quantile(similarity, [0.16, 0.5])
    return float(min(0.5, middle + 3 * (middle - low)))


@dataclass(frozen=True)
class Graph:
    """The neighbour graph of an epoch: its links, the node features they were found with, and what was chosen."""

    links: Links
    features: NDArray[np.float32]
    chosen: dict[str, float]


def build_graph(
    kind: CameraBalancedNeighbours | NearestNeighbours,
    features: NDArray[np.float32],
    data: TrainingSet,
    nodes_per_person: float,
    seed: int,
) -> Graph:
    """The graph over the nodes of a training set.

    Args:
        kind: which graph.
        features: (N, D) L2-normalised features of the crops.
        data: the crops.
        nodes_per_person: how many nodes a person leaves in a camera (`neighbour_counts`).
        seed: of the sample that sets the similarity cut.
    """
    nodes = node_features(features, data.node, data.nodes)
    if isinstance(kind, NearestNeighbours):
        return Graph(
            nearest_links(nodes, kind.k, kind.min_similarity),
            nodes,
            {"k": kind.k, "min_similarity": kind.min_similarity},
        )
    nodes = centre_per_camera(nodes, data.node_camera)
    own, other = neighbour_counts(nodes_per_person)
    cut = similarity_cut(nodes, data.node_camera, seed)
    links = mutual_links_per_camera(nodes, data.node_camera, own, other, cut, data.cannot_link)
    return Graph(links, nodes, {"k_own": own, "k_other": other, "min_similarity": cut})


class InterCamera:
    """The stage as an object that runs epoch by epoch and can be stored and restored between two of them.

    Args:
        net: encoder with its start weights; trained in place.
        data: the crops, of at least two cameras.
        profile: settings.
        seed: of every random choice.
        precision: device and number format.
        local: local clusters of stage 1, or None (then the profile must leave refinement out).
        known: (N,) labels to train with instead of clusters (the ceiling), -1 = not used; or None.

    Attributes:
        epoch, epochs: how many are done, and how many there are.
        finished: nothing is left to do.
        local: local clusters of the best epoch so far, of either stage: the encoder that learns across cameras soon
            tells people apart inside one better than stage 1's does.
        nodes_per_person: how many nodes a person leaves in a camera, as far as local clusters tell; None before the
            first epoch.
    """

    name = "inter"

    def __init__(
        self,
        net: ReidNet,
        data: TrainingSet,
        profile: Profile,
        seed: int,
        precision: Precision,
        local: LocalClusters | None,
        known: NDArray[np.int64] | None = None,
    ) -> None:
        self.net, self.data, self.profile, self.seed, self.precision = net, data, profile, seed, precision
        self.stage = profile.inter
        self.local, self.known = local, known
        parameters = list(net.parameters())
        self.classifier: CameraClassifier | None = None
        if profile.alignment is not None and known is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(epoch_seed(seed, self.name, 0, "classifier"))
                classifier = CameraClassifier(net.embedding_dim, len(data.camera_ids), profile.alignment.strength)
            self.classifier = classifier.to(precision.device)
            parameters += list(self.classifier.parameters())
        self._forward = training_pass(net, precision)
        self.optimiser = adam(parameters, self.stage.lr, profile.weight_decay)
        self.epoch, self.epochs = 0, self.stage.epochs
        self.finished = False
        self.nodes_per_person: float | None = None

    def run_epoch(self, on_step: Progress) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
        """Find who is who, then train on it.

        Returns:
            The epoch's line for metrics.jsonl, and the labels: "global" and "refined" (M,), "crop" (N,) what was
            trained on.
        """
        began = time.monotonic()
        record: dict[str, Any] = {"stage": self.name, "epoch": self.epoch}
        features = extract_together(
            self.net,
            self.data.images,
            self.precision,
            self.profile.feature_batch,
            lambda i, n: on_step("features", i, n),
        )
        found, labels = agree(lambda: self._cluster(features), self.precision.device)
        record |= found
        if "local" in labels:
            self.local = LocalClusters(labels["local"], record["local_silhouette"])
        crop_labels = labels["crop"]
        clusters = int(crop_labels.max(initial=-1)) + 1
        record["silhouette"] = silhouette(features, crop_labels)
        record["trained_clusters"] = clusters
        lr = decayed_lr(self.stage.lr, self.epoch, self.stage.lr_step)
        set_lr(self.optimiser, lr)
        record["lr"] = lr
        if clusters > 1:
            record |= self._train(features, crop_labels, on_step)
        self.epoch += 1
        self.finished = self.epoch >= self.stage.epochs
        record["seconds"] = time.monotonic() - began
        return record, labels

    def _cluster(self, features: NDArray[np.float32]) -> Found:
        data, profile = self.data, self.profile
        if self.known is not None:
            return {}, {"crop": renumber(self.known)}
        record: dict[str, Any] = {}
        if self.nodes_per_person is None:
            # Counted once, on the start weights' features, so that runs with and without stage 1 use the same graph.
            self.nodes_per_person = data.nodes / find_local_clusters(features, data, profile).count
        graph = build_graph(
            profile.graph, features, data, self.nodes_per_person, epoch_seed(self.seed, self.name, self.epoch, "graph")
        )
        record["links"] = len(graph.links)
        found = self._global_clusters(graph)
        smallest = smallest_cluster(found, data.crops_per_node, profile.min_cluster_crops)
        found = drop_small_clusters(found, data.crops_per_node, smallest)
        record["graph"] = {**graph.chosen, "min_cluster_crops": smallest}
        labels = {"global": found, "refined": found}
        if profile.refinement is not None and self.local is not None:
            local = max((self.local, find_local_clusters(features, data, profile)), key=lambda found: found.silhouette)
            refined = self._refined_clusters(profile.refinement, found, local, graph, record)
            labels |= {"local": local.labels, "refined": refined}
            record |= {"local_silhouette": local.silhouette, **local.quality(data)}
        kept = drop_small_clusters(labels["refined"], data.crops_per_node, smallest)
        labels["crop"] = kept[data.node]
        sizes = np.bincount(labels["crop"][labels["crop"] >= 0]) if (kept >= 0).any() else np.zeros(0)
        cameras_seen = [len(np.unique(data.camera[labels["crop"] == c])) for c in range(len(sizes))]
        record |= {
            "clusters": int(found.max(initial=-1)) + 1,
            "cluster_crops": _five_numbers(sizes),
            "clusters_in_one_camera": sum(n == 1 for n in cameras_seen),
            "unused_crops": float((labels["crop"] < 0).mean()),
        }
        if data.identity is not None:
            record["global"] = cluster_quality(found[data.node], data.identity)
            record["refined"] = cluster_quality(labels["crop"], data.identity)
        return record, labels

    def _global_clusters(self, graph: Graph) -> NDArray[np.int64]:
        data, how = self.data, self.profile.clustering
        if isinstance(how, Dbscan):
            found = dbscan_clusters(graph.features, how.eps, how.min_samples, how.k1, how.k2)
        else:
            found = infomap_clusters(graph.links, epoch_seed(self.seed, self.name, self.epoch, "infomap"))
        if self.profile.splitting is not None:
            cut = min(max(graph.chosen["min_similarity"], 0.01), 0.99)
            found = split_clusters(found, graph.features, 1.0 - cut, data.cannot_link)
        return found

    def _refined_clusters(
        self,
        how: Refinement,
        found: NDArray[np.int64],
        local: LocalClusters,
        graph: Graph,
        record: dict[str, Any],
    ) -> NDArray[np.int64]:
        camera, crops = self.data.node_camera, self.data.crops_per_node
        share = discard_share(self.epoch, how.start, how.full_at)
        scores = node_scores(graph.links)
        pivots = published_pivots(found, scores) if how.pivots == "published" else camera_pivots(found, camera, scores)
        refined = refine(found, local.labels, camera, pivots, graph.features, share)
        clustered = max(int(crops[found >= 0].sum()), 1)
        record |= {
            "share": share,
            "pivots": len(pivots),
            "doubted": float(crops[refined.doubted].sum() / clustered),
            "discarded": float(crops[refined.discarded].sum() / clustered),
        }
        return refined.labels

    def _train(self, features: NDArray[np.float32], labels: NDArray[np.int64], on_step: Progress) -> dict[str, float]:
        data, profile, device = self.data, self.profile, self.precision.device
        seen = cluster_cameras(torch.from_numpy(labels), torch.from_numpy(data.camera), len(data.camera_ids))
        memory = ClusterMemory(
            cluster_centroids(torch.from_numpy(features), torch.from_numpy(labels)).to(device),
            profile.temperature,
            profile.momentum,
            seen.to(device) if profile.spare_disjoint_cameras and self.known is None else None,
        )
        weigh = self.known is None and profile.entropy_warmup is not None and self.epoch >= profile.entropy_warmup
        terms: list[Term] = [
            ContrastiveTerm(memory, labels, entropy_weights(labels, data.camera) if weigh else None, device)
        ]
        if profile.proxies is not None and self.known is None:
            how = profile.proxies
            proxies = CameraProxies(
                features, labels, data.camera, how.temperature, profile.momentum, how.hardest, device
            )
            terms.append(ProxyTerm(proxies, how.weight))
        alignment = profile.alignment
        if self.classifier is not None and alignment is not None and self.epoch < alignment.epochs:
            self.classifier.train()
            terms.append(AlignmentTerm(self.classifier, data.camera, alignment.weight, device))
        iterations = self.stage.iterations(len(data))
        batches = BalancedBatches(
            labels,
            data.camera,
            data.node,
            self.stage.clusters,
            self.stage.crops,
            iterations,
            epoch_seed(self.seed, self.name, self.epoch, "batches"),
        )
        return train_epoch(
            self.net,
            self._forward,
            self.optimiser,
            data.images,
            batches,
            make_augment(profile, data, epoch_seed(self.seed, self.name, self.epoch, "augment")),
            terms,
            self.precision,
            profile.ghost_batch,
            lambda done: on_step("training", done, iterations),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs as tensors."""
        out = {**module_tensors("net", self.net), **optimiser_tensors(self.optimiser)}
        if self.classifier is not None:
            out |= module_tensors("classifier", self.classifier)
        return {**out, **local_tensors(self.local)}

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs as JSON."""
        return {
            "epoch": self.epoch,
            "finished": self.finished,
            "nodes_per_person": self.nodes_per_person,
            "local_silhouette": None if self.local is None else self.local.silhouette,
        }

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        restore_module("net", self.net, tensors)
        restore_optimiser(self.optimiser, tensors)
        if self.classifier is not None:
            restore_module("classifier", self.classifier, tensors)
        self.epoch, self.finished = int(state["epoch"]), bool(state["finished"])
        self.nodes_per_person = state["nodes_per_person"]
        self.local = restore_local(tensors, state)


def _five_numbers(values: NDArray[Any]) -> list[float]:
    """Minimum, quartiles and maximum; empty for nothing."""
    return [float(q) for q in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])] if len(values) else []
