"""Stage 1 as CALR publishes it: every camera by itself, each with an encoder of its own from the start weights.

For comparison with the joint form (`calr.intra_camera`): it takes as many trainings as there are cameras, and of all
those encoders only the local clusters are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calr.intra_camera import IntraCamera, LocalClusters, Progress
from calr.precision import Precision
from calr.profiles import Profile
from calr.training_set import TrainingSet
from models.reid import ReidNet


class PerCameraStage:
    """Camera after camera, as one stage that can be stored and restored between two epochs.

    Args:
        start_net: gives an encoder with its start weights.
        data: the crops of all cameras.
        profile, seed, precision: as for `IntraCamera`.

    Attributes:
        epoch: epochs done, over all cameras; `epochs` is how many there are at most.
        finished: nothing is left to do.
        local: local clusters of all cameras, once finished.
        net: the encoder of the last camera.
    """

    name = "intra"

    def __init__(
        self,
        start_net: Callable[[], ReidNet],
        data: TrainingSet,
        profile: Profile,
        seed: int,
        precision: Precision,
    ) -> None:
        self._start_net, self._data = start_net, data
        self._profile, self._seed, self._precision = profile, seed, precision
        self._cameras: list[int] = np.unique(data.camera).tolist()
        self._turn = 0
        self._stage = self._start(self._cameras[0])
        self._labels = np.full(data.nodes, -1, dtype=np.int64)
        self._silhouettes: list[float] = []
        self.epoch = 0
        self.epochs = self._stage.epochs * len(self._cameras)
        self.finished = False

    def _start(self, camera: int) -> IntraCamera:
        return IntraCamera(self._start_net(), self._data.of_camera(camera), self._profile, self._seed, self._precision)

    @property
    def net(self) -> ReidNet:
        return self._stage.net

    @property
    def local(self) -> LocalClusters | None:
        if not self.finished:
            return None
        weights = np.bincount(self._data.camera)[self._cameras]
        return LocalClusters(self._labels, float(np.average(self._silhouettes, weights=weights)))

    def run_epoch(self, on_step: Progress) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
        """One epoch of one camera. See `IntraCamera.run_epoch`; labels (M,) are -1 outside that camera."""
        camera = self._cameras[self._turn]
        record, found = self._stage.run_epoch(on_step)
        record |= {"epoch": self.epoch, "camera": self._data.camera_ids[camera]}
        nodes = self._data.node_camera == camera
        labels = np.full(self._data.nodes, -1, dtype=np.int64)
        labels[nodes] = found["local"]
        self.epoch += 1
        if self._stage.finished:
            local = self._stage.local
            assert local is not None
            self._labels[nodes] = local.labels + self._labels.max() + 1
            self._silhouettes.append(local.silhouette)
            self._turn += 1
            self.finished = self._turn == len(self._cameras)
            if not self.finished:
                self._stage = self._start(self._cameras[self._turn])
        return record, {"local": labels}

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs as tensors."""
        return {**self._stage.tensors(), "labels.cameras": torch.from_numpy(self._labels)}

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs as JSON."""
        return {
            "epoch": self.epoch,
            "finished": self.finished,
            "turn": self._turn,
            "silhouettes": self._silhouettes,
            "camera": self._stage.state(),
        }

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        self.epoch, self.finished, self._turn = int(state["epoch"]), bool(state["finished"]), int(state["turn"])
        self._labels = tensors["labels.cameras"].numpy().copy()
        self._silhouettes = list(state["silhouettes"])
        self._stage = self._start(self._cameras[min(self._turn, len(self._cameras) - 1)])
        self._stage.restore(tensors, state["camera"])
