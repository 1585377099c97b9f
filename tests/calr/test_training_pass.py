"""The pass of training: what the network gives, as float32 with a gradient, recorded or not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from calr.ghost_batch_norm import use_ghost_batches
from calr.precision import Precision
from calr.training_pass import training_pass
from models.preprocess import normalise
from models.reid import ReidNet, build_reid


def network() -> ReidNet:
    torch.manual_seed(0)
    net = build_reid("osnet_x0_25").to(memory_format=torch.channels_last).train()
    use_ghost_batches(net, 4)
    return net


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 64, 32, generator=torch.Generator().manual_seed(seed)) * 255


@pytest.mark.parametrize("bf16", [False, True])
def test_features_are_float32_and_have_a_gradient(bf16: bool) -> None:
    net = network()
    features = training_pass(net, Precision("cpu", bf16))(images(8))
    assert features.shape == (8, net.embedding_dim) and features.dtype == torch.float32
    features.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


def test_a_process_without_a_share_of_the_batch_gets_no_features() -> None:
    net = network()
    features = training_pass(net, Precision("cpu", bf16=False))(images(0))
    assert features.shape == (0, net.embedding_dim) and not features.requires_grad


@pytest.mark.gpu
def test_a_recorded_pass_learns_what_a_plain_one_does() -> None:
    """Over several steps and two shapes of batch, weights and running statistics stay the same."""
    recorded = network().cuda()
    plain = copy.deepcopy(recorded)
    forward = training_pass(recorded, Precision("cuda", bf16=False))
    optimisers = [torch.optim.SGD(net.parameters(), 1e-3) for net in (recorded, plain)]
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for step in range(6):
            batch = images(16 if step % 2 else 12, step).cuda()
            ours = forward(batch)
            theirs = plain(normalise(batch).contiguous(memory_format=torch.channels_last))
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
            for features, optimiser in zip((ours, theirs), optimisers, strict=True):
                optimiser.zero_grad(set_to_none=True)
                features.square().mean().backward()
                optimiser.step()
    for (name, one), other in zip(recorded.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert not torch.equal(
        recorded.state_dict()["neck.1.running_mean"], network().cuda().state_dict()["neck.1.running_mean"]
    )
