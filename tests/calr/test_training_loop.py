"""An epoch of training: it moves the weights along the gradient of its terms, and stops where numbers end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from calr.augment import Augment
from calr.precision import Precision
from calr.training_loop import TrainError, adam, train_epoch
from calr.training_pass import training_pass
from tests.calr.toy_people import ToyNet, toy_people


class Squares:
    """The mean square of the features, to a power; and what it was asked."""

    name = "squares"

    def __init__(self, power: float = 1.0) -> None:
        self.power = power
        self.followed: list[int] = []

    def loss(self, features: Tensor, crops: NDArray[np.int64]) -> Tensor:
        return (features.square().mean() * 0 if self.power < 1 else features.square().mean()) ** self.power

    def after_step(self, features: Tensor, crops: NDArray[np.int64]) -> None:
        assert not features.requires_grad
        self.followed += crops.tolist()

    def measures(self) -> dict[str, float]:
        return {"followed": float(len(self.followed))}


def epoch(term: Squares, net: ToyNet, batches: list[list[int]]) -> dict[str, float]:
    return train_epoch(
        net,  # type: ignore[arg-type]
        training_pass(net, Precision("cpu", bf16=False)),  # type: ignore[arg-type]
        adam(net.parameters(), 1e-2, 0.0),
        toy_people(people=4).images,
        [np.asarray(batch) for batch in batches],
        Augment(0, 0.0, 0.0, 1),
        [term],  # type: ignore[list-item]
        Precision("cpu", bf16=False),
        None,
    )


def test_the_loss_falls_and_terms_follow_every_batch() -> None:
    net, batch = ToyNet(), list(range(12))
    before = [parameter.clone() for parameter in net.parameters()]
    first = epoch(Squares(), net, [batch])
    assert any(not torch.equal(one, two) for one, two in zip(before, net.parameters(), strict=True))
    term = Squares()
    later = epoch(term, net, [batch] * 5)
    assert later["loss"] == later["loss_squares"] < first["loss"]
    assert term.followed == batch * 5 and later["followed"] == 60


def test_a_loss_that_is_no_number_stops_it() -> None:
    net = ToyNet()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(TrainError, match="the loss became nan in batch 1"):
        epoch(Squares(), net, [[0, 1, 2, 3]])


def test_weights_that_are_no_numbers_stop_it_though_the_loss_is_one() -> None:
    # The square root has the value 0 at 0 and no slope there.
    with pytest.raises(TrainError, match="weights are no longer finite"):
        epoch(Squares(0.5), ToyNet(), [[0, 1, 2, 3]])
