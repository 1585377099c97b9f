"""Ghost batch normalisation is plain batch normalisation of each part by itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from calr.ghost_batch_norm import GhostBatchNorm2d, use_ghost_batches
from models.reid import build_reid


def layers(shape: tuple[int, ...]) -> nn.Sequential:
    torch.manual_seed(0)
    norm: nn.Module = nn.BatchNorm1d(shape[1]) if len(shape) == 2 else nn.BatchNorm2d(shape[1])
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    return nn.Sequential(norm)


@pytest.mark.parametrize("shape", [(10, 5), (7, 3, 4, 2), (8, 3, 4, 2), (4, 6)])
@pytest.mark.parametrize("ghost", [2, 4, 64])
def test_each_part_is_normalised_by_itself(shape: tuple[int, ...], ghost: int) -> None:
    net = layers(shape)
    plain = copy.deepcopy(net)
    use_ghost_batches(net, ghost)
    batch = torch.randn(shape)
    cuts = list(range(0, shape[0], ghost))
    if len(cuts) > 1 and shape[0] - cuts[-1] == 1:
        cuts.pop()
    ends = [*cuts[1:], shape[0]]
    each = [copy.deepcopy(plain) for _ in cuts]
    expected: list[Tensor] = [one(batch[a:b]) for one, a, b in zip(each, cuts, ends, strict=True)]
    torch.testing.assert_close(net(batch), torch.cat(expected))
    for statistic in ("running_mean", "running_var"):
        moved = torch.stack([getattr(one[0], statistic) for one in each]).mean(0)
        torch.testing.assert_close(getattr(net[0], statistic), moved)


def test_the_gradient_is_right() -> None:
    net = layers((6, 2, 3, 2)).double()
    use_ghost_batches(net, 3)
    assert torch.autograd.gradcheck(net, torch.randn(6, 2, 3, 2, dtype=torch.double, requires_grad=True))


@pytest.mark.parametrize("arch", ["osnet_x0_25", "mobilenet_v2"])
def test_a_whole_network_keeps_its_parameters_and_its_layout(arch: str) -> None:
    net = build_reid(arch).to(memory_format=torch.channels_last)
    names = list(net.state_dict())
    parameters = [id(parameter) for parameter in net.parameters()]
    images = torch.randn(4, 3, 64, 32).contiguous(memory_format=torch.channels_last)
    before = net.eval()(images)
    use_ghost_batches(net, 2)
    assert sum(isinstance(module, GhostBatchNorm2d) for module in net.modules()) > 20
    assert not any(type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) for module in net.modules())
    assert list(net.state_dict()) == names
    assert [id(parameter) for parameter in net.parameters()] == parameters
    torch.testing.assert_close(net(images), before)
    net.train()(images).sum().backward()


def test_one_image_is_no_part() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        use_ghost_batches(nn.Sequential(nn.BatchNorm2d(3)), 1)
