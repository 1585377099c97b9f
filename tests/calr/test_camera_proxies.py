"""The loss over camera proxies against its equation, one crop and one proxy at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from calr.camera_proxies import CameraProxies


def data(n: int, clusters: int, cameras: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(n, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features, draw.integers(-1, clusters, n), draw.integers(0, cameras, n)


def plain_loss(
    features: np.ndarray, labels: np.ndarray, camera: np.ndarray, batch: np.ndarray, crops: list[int], hardest: int
) -> float:
    proxies: dict[tuple[int, int], np.ndarray] = {}
    for place in sorted({(int(y), int(c)) for y, c in zip(labels, camera, strict=True) if y >= 0}):
        mean = features[(labels == place[0]) & (camera == place[1])].astype(np.float64).mean(0)
        proxies[place] = mean / np.linalg.norm(mean)
    losses = []
    for f, crop in zip(batch, crops, strict=True):
        y, c = int(labels[crop]), int(camera[crop])
        score = {place: math.exp(float(f @ proxy) / 0.07) for place, proxy in proxies.items()}
        others = [place for place in proxies if place[0] == y and place[1] != c]
        if not others:
            continue
        hard = sorted((score[place] for place in proxies if place[0] != y), reverse=True)[:hardest]
        below = sum(score[place] for place in proxies if place[0] == y) + sum(hard)
        losses.append(-np.mean([math.log(score[place] / below) for place in others]))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize(
    ("n", "clusters", "cameras", "hardest"),
    [(12, 2, 2, 50), (40, 5, 3, 3), (60, 4, 6, 50), (30, 6, 1, 5), (9, 1, 3, 4)],
)
def test_equals_the_equation(n: int, clusters: int, cameras: int, hardest: int) -> None:
    features, labels, camera = data(n, clusters, cameras, seed=n)
    crops = np.flatnonzero(labels >= 0)[:8].tolist()
    batch = F.normalize(torch.randn(len(crops), 6, generator=torch.Generator().manual_seed(1)), dim=1)
    proxies = CameraProxies(features, labels, camera, hardest=hardest)
    got = proxies.loss(batch, torch.tensor(crops))
    assert float(got.detach()) == pytest.approx(
        plain_loss(features, labels, camera, batch.numpy(), crops, hardest), abs=1e-4
    )


def test_gradient_is_finite_and_right_where_a_crop_has_no_other_camera() -> None:
    features, labels, camera = data(20, 3, 2, seed=5)
    labels[camera == 1] = 0  # clusters 1 and 2 are seen by one camera
    labels[:3] = [0, 1, 2]
    camera[:3] = 0
    proxies = CameraProxies(features, labels, camera)
    proxies.centroids = proxies.centroids.double()
    batch = F.normalize(torch.randn(3, 6, dtype=torch.double), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: proxies.loss(x, torch.tensor([0, 1, 2])), batch)


def test_one_camera_only_gives_no_loss_and_no_nan() -> None:
    features, labels, _ = data(20, 3, 1, seed=5)
    proxies = CameraProxies(features, labels, np.zeros(20, dtype=np.int64))
    batch = F.normalize(torch.randn(2, 6), dim=1).requires_grad_()
    crops = torch.tensor(np.flatnonzero(labels >= 0)[:2])
    loss = proxies.loss(batch, crops)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0 and torch.isfinite(batch.grad).all()  # type: ignore[arg-type]


def test_proxies_follow_the_crops_and_keep_their_length() -> None:
    features, labels, camera = data(30, 3, 2, seed=2)
    proxies = CameraProxies(features, labels, camera)
    crop = int(np.flatnonzero(labels >= 0)[0])
    before = proxies.centroids.clone()
    new = F.normalize(torch.randn(2, 6), dim=1)
    proxies.update(new, torch.tensor([crop, crop]))
    own = int(proxies.of_crop[crop])
    once = F.normalize(0.1 * before[own] + 0.9 * new[0], dim=0)
    torch.testing.assert_close(proxies.centroids[own], F.normalize(0.1 * once + 0.9 * new[1], dim=0))
    others = torch.arange(len(before)) != own
    assert torch.equal(proxies.centroids[others], before[others])
    torch.testing.assert_close(proxies.centroids.norm(dim=1), torch.ones(len(before)))


def test_without_clusters_there_are_none() -> None:
    with pytest.raises(ValueError, match="no crop is in a cluster"):
        CameraProxies(np.zeros((3, 4), np.float32), np.full(3, -1), np.zeros(3, dtype=np.int64))
