"""Batches of P clusters × K crops, with the cameras of a cluster in turn."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class BalancedBatches:
    """Draws batches for the contrastive loss.

    Every batch has P different clusters with K crops each. Clusters are drawn in shuffled rounds, so all are seen
    equally often. Within a cluster the cameras take turns, within a camera the nodes (tracklets), within a node the
    crops: a person seen for a minute by one camera and for a second by another counts the same in both. Crops repeat
    only when a cluster is smaller than K.

    Args:
        labels: (N,) cluster of each crop, -1 = not used.
        camera: (N,).
        node: (N,) tracklet (or crop) of each crop.
        clusters_per_batch: P. With fewer clusters, all of them; K then grows so that the batch keeps its size.
        crops_per_cluster: K.
        batches: number of batches an iteration yields.
        seed: the same seed gives the same batches.

    Raises:
        ValueError: no crop has a cluster.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        camera: NDArray[np.int64],
        node: NDArray[np.int64],
        clusters_per_batch: int,
        crops_per_cluster: int,
        batches: int,
        seed: int,
    ) -> None:
        used = np.flatnonzero(labels >= 0)
        if len(used) == 0:
            raise ValueError("no crop is in a cluster, there is nothing to draw")
        self._labels, self._camera, self._node = labels, camera, node
        order = used[np.argsort(labels[used], kind="stable")]
        self._members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self.clusters_per_batch = min(clusters_per_batch, len(self._members))
        self.crops_per_cluster = max(1, clusters_per_batch * crops_per_cluster // self.clusters_per_batch)
        self._batches = batches
        self._seed = seed

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yields (P·K,) crop indices, the crops of a cluster side by side."""
        draw = np.random.default_rng(self._seed)
        waiting: list[int] = []
        supply: list[list[int]] = [[] for _ in self._members]
        for _ in range(self._batches):
            chosen: list[int] = []
            while len(chosen) < self.clusters_per_batch:
                if not waiting:
                    waiting = draw.permutation(len(self._members)).tolist()
                # A cluster left over from the last round may come up again at once: it waits for the next batch.
                position = next((i for i, c in enumerate(waiting) if c not in chosen), None)
                if position is None:
                    waiting = [*waiting, *draw.permutation(len(self._members)).tolist()]
                    continue
                chosen.append(waiting.pop(position))
            batch: list[int] = []
            for cluster in chosen:
                own = supply[cluster]
                while len(own) < self.crops_per_cluster:
                    own.extend(self._turns(self._members[cluster], draw))
                batch.extend(own[: self.crops_per_cluster])
                del own[: self.crops_per_cluster]
            yield np.asarray(batch, dtype=np.int64)

    def _turns(self, members: NDArray[np.int64], draw: np.random.Generator) -> list[int]:
        """The members in an order where cameras take turns, and the nodes inside each camera.

        As many as the cluster has, so a camera with few crops repeats them rather than drop out.
        """
        cameras: list[list[list[int]]] = []
        for camera in np.unique(self._camera[members]).tolist():
            inside = members[self._camera[members] == camera]
            nodes = [inside[self._node[inside] == n] for n in np.unique(self._node[inside])]
            cameras.append([draw.permutation(n).tolist() for n in nodes])
            draw.shuffle(cameras[-1])
        queues = [
            [nodes[i % len(nodes)][(i // len(nodes)) % len(nodes[i % len(nodes)])] for i in range(len(members))]
            for nodes in cameras
        ]
        draw.shuffle(queues)
        return [queues[i % len(queues)][i // len(queues)] for i in range(len(members))]
