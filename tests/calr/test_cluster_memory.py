"""The memory's loss, gradient and update against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from calr.cluster_memory import ClusterMemory, cluster_cameras, cluster_centroids


def _case(seed: int, batch: int, clusters: int, dim: int):
    draw = torch.Generator().manual_seed(seed)
    centroids = torch.randn(clusters, dim, generator=draw)
    features = F.normalize(torch.randn(batch, dim, generator=draw), dim=1)
    labels = torch.randint(0, clusters, (batch,), generator=draw)
    cameras = torch.rand(clusters, 3, generator=draw) < 0.4
    cameras[torch.arange(clusters), torch.randint(0, 3, (clusters,), generator=draw)] = True
    weights = torch.rand(clusters, generator=draw) + 0.5
    return centroids, features, labels, cameras, weights


def _loss_plain(centroids, features, labels, weights, cameras, temperature):
    total = 0.0
    for feature, label in zip(features.tolist(), labels.tolist(), strict=True):
        rivals = [
            c
            for c in range(len(centroids))
            if cameras is None or any(a and b for a, b in zip(cameras[c], cameras[label], strict=True))
        ]
        logits = {}
        for c in rivals:
            norm = math.sqrt(sum(v * v for v in centroids[c]))
            logits[c] = sum(a * b / norm for a, b in zip(feature, centroids[c], strict=True)) / temperature
        top = max(logits.values())
        log_sum = top + math.log(sum(math.exp(v - top) for v in logits.values()))
        total += (1.0 if weights is None else weights[label]) * (log_sum - logits[label])
    return total / len(features)


@pytest.mark.parametrize("sparing", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("batch", "clusters", "dim"), [(1, 1, 1), (4, 3, 2), (16, 5, 8), (64, 40, 16)])
def test_loss_equals_the_plain_sum(batch: int, clusters: int, dim: int, weighted: bool, sparing: bool) -> None:
    centroids, features, labels, cameras, weights = _case(batch, batch, clusters, dim)
    memory = ClusterMemory(centroids, temperature=0.1, cameras=cameras if sparing else None)
    got = memory.loss(features, labels, weights if weighted else None)
    wanted = _loss_plain(
        centroids.tolist(),
        features,
        labels,
        weights.tolist() if weighted else None,
        cameras.tolist() if sparing else None,
        0.1,
    )
    assert float(got) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_gradient_equals_autograd_on_the_definition() -> None:
    centroids, features, labels, _, _ = _case(3, 12, 6, 8)
    for dtype in (torch.float32, torch.float64):
        ours = features.clone().to(dtype).requires_grad_()
        ClusterMemory(centroids, temperature=0.05).loss(ours, labels).backward()
        theirs = features.clone().double().requires_grad_()
        similarity = theirs @ F.normalize(centroids, dim=1).double().T / 0.05
        (-similarity.log_softmax(1)[torch.arange(12), labels]).mean().backward()
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(("batch", "clusters"), [(1, 1), (7, 3), (64, 16), (50, 80)])
def test_update_goes_sample_after_sample(batch: int, clusters: int, momentum: float) -> None:
    centroids, features, labels, _, _ = _case(batch + clusters, batch, clusters, 8)
    memory = ClusterMemory(centroids, momentum=momentum)
    wanted = F.normalize(centroids, dim=1)
    memory.update(features, labels)
    for feature, label in zip(features, labels.tolist(), strict=True):
        wanted[label] = F.normalize(momentum * wanted[label] + (1 - momentum) * feature, dim=0)
    torch.testing.assert_close(memory.centroids, wanted)


def test_a_lone_cluster_of_its_camera_costs_nothing_and_is_finite() -> None:
    memory = ClusterMemory(torch.eye(3), cameras=torch.tensor([[1, 0], [0, 1], [0, 1]]))
    features = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    loss = memory.loss(features, torch.tensor([0]))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.isfinite(features.grad).all()


def test_centroids_are_normalised_means_and_skip_the_unlabelled() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    got = cluster_centroids(features, torch.tensor([0, 0, 1, -1]))
    torch.testing.assert_close(got, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))


def test_which_cameras_see_which_cluster() -> None:
    seen = cluster_cameras(torch.tensor([0, 0, -1, 1, 1]), torch.tensor([0, 2, 1, 1, 1]), 3)
    assert seen.tolist() == [[True, False, True], [False, True, False]]


def test_a_memory_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="C > 0"):
        ClusterMemory(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="cameras of 2 clusters for 3"):
        ClusterMemory(torch.eye(3), cameras=torch.ones(2, 1))
