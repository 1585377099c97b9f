"""How much a cluster counts by how evenly the cameras see it (CALR section 3.4)."""

import numpy as np
from numpy.typing import NDArray


def camera_entropy(labels: NDArray[np.int64], camera: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) Shannon entropy in nats of the cameras in each cluster. labels (N,) with -1 = none; camera (N,)."""
    kept = labels >= 0
    if not kept.any():
        return np.zeros(0)
    counts = np.zeros((int(labels.max()) + 1, int(camera.max()) + 1))
    np.add.at(counts, (labels[kept], camera[kept]), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    entropy: NDArray[np.float64] = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    return entropy


def entropy_weights(labels: NDArray[np.int64], camera: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) weights 1 + log(1 + H), scaled to mean 1.

    The paper's log(1 + H) is 0 for a cluster that one camera sees: such clusters silently stop training. With the 1 in
    front the weight of the most spread cluster among n cameras is at most 1 + log(1 + log n) times that of a
    one-camera cluster (1.9 for n = 4), and none is ever 0.
    """
    weight = 1.0 + np.log1p(camera_entropy(labels, camera))
    return weight / weight.mean() if len(weight) else weight
