"""models.reid and the bodies behind it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.pooling import GemPooling
from models.reid import ARCHITECTURES, build_reid
from models.resnet_ibn import InstanceBatchNorm

DIMENSIONS = {"osnet_x0_25": 512, "osnet_x1_0": 512, "resnet50": 2048, "ibn_resnet50_a": 2048, "mobilenet_v2": 1280}
# Millions of parameters without a classifier: OSNet paper, table 8 (2.2 and 0.2); torchvision's tables less the last
# layer's 2048·1000 + 1000 and 1280·1000 + 1000.
PARAMETERS = {"osnet_x0_25": 0.2, "osnet_x1_0": 2.2, "resnet50": 23.5, "ibn_resnet50_a": 23.5, "mobilenet_v2": 2.2}


@pytest.mark.parametrize("pooling", ["avg", "gem"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_shapes_and_gradients(arch: str, pooling: str) -> None:
    torch.manual_seed(0)
    net = build_reid(arch, pooling=pooling)  # type: ignore[arg-type]
    embeddings = net.train()(torch.randn(4, 3, 64, 32))
    assert embeddings.shape == (4, DIMENSIONS[arch])
    assert net.embedding_dim == DIMENSIONS[arch]
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert bool(torch.isfinite(parameter.grad).all()), name
    millions = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS[arch], abs=0.06)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'vgg16'.*osnet_x0_25.*mobilenet_v2"):
        build_reid("vgg16")
    with pytest.raises(ValueError, match=r"'max'.*avg, gem"):
        build_reid("osnet_x0_25", pooling="max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arch", "shape"),
    [("osnet_x0_25", (16, 8)), ("resnet50", (16, 8)), ("ibn_resnet50_a", (16, 8)), ("mobilenet_v2", (8, 4))],
)
def test_size_of_the_feature_map(arch: str, shape: tuple[int, int]) -> None:
    with torch.inference_mode():
        maps = build_reid(arch).backbone(torch.zeros(1, 3, 256, 128))
    assert maps.shape[2:] == shape


def test_osnet_embedding_has_no_relu() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        embeddings = build_reid("osnet_x0_25").train()(torch.randn(8, 3, 64, 32))
    assert 0.3 < float((embeddings < 0).float().mean()) < 0.7


@pytest.mark.parametrize("arch", ["resnet50", "mobilenet_v2"])
def test_neck_has_a_frozen_bias_of_zero(arch: str) -> None:
    neck = build_reid(arch).neck
    assert isinstance(neck, nn.BatchNorm1d)
    assert not neck.bias.requires_grad
    assert neck.weight.requires_grad
    assert not neck.bias.any()


def test_ibn_only_in_the_first_three_stages() -> None:
    net = build_reid("ibn_resnet50_a")
    places = [name for name, module in net.named_modules() if isinstance(module, InstanceBatchNorm)]
    assert len(places) == 3 + 4 + 6
    assert all(name.endswith(".bn1") and not name.startswith("backbone.layer4") for name in places)
    assert "backbone.layer1.0.bn1.IN.weight" in net.state_dict()


def test_ibn_is_instance_norm_and_batch_norm_side_by_side() -> None:
    torch.manual_seed(0)
    layer = InstanceBatchNorm(6).train()
    x = torch.randn(5, 6, 4, 3) * 3 + 2
    out = layer(x).detach().numpy()
    plain = x.numpy()
    instance = (plain - plain.mean((2, 3), keepdims=True)) / np.sqrt(plain.var((2, 3), keepdims=True) + 1e-5)
    batch = (plain - plain.mean((0, 2, 3), keepdims=True)) / np.sqrt(plain.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out[:, :3], instance[:, :3], atol=1e-4)
    np.testing.assert_allclose(out[:, 3:], batch[:, 3:], atol=1e-4)


def test_gem_is_the_generalised_mean() -> None:
    x = torch.rand(2, 5, 4, 3) * 4
    plain = (x.numpy().astype(np.float64) ** 3).mean((2, 3)) ** (1 / 3)
    np.testing.assert_allclose(GemPooling(3.0)(x).detach().numpy(), plain, rtol=1e-5)
    np.testing.assert_allclose(GemPooling(1.0)(x).detach().numpy(), x.mean((2, 3)).numpy(), rtol=1e-5)
    np.testing.assert_allclose(GemPooling(200.0)(x / 4).detach().numpy(), x.amax((2, 3)).numpy() / 4, rtol=0.03)


def test_gem_under_autocast_and_on_dead_channels() -> None:
    x = torch.rand(2, 4, 3, 3) * 5
    pool = GemPooling()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = pool(x.bfloat16())
    torch.testing.assert_close(low.float(), pool(x), rtol=0.01, atol=0.01)
    dead = torch.zeros(1, 4, 3, 3, requires_grad=True)
    pool(dead).sum().backward()
    assert pool.p.grad is not None
    assert bool(torch.isfinite(pool.p.grad))
