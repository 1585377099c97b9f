import pytest
import torch
import torch.nn.functional as F

from models.mobilenet import HalvingDepthwiseConv, MobileNetV2


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 2), (16, 9)])
def test_the_halving_convolution_is_the_strided_one(size: tuple[int, int]) -> None:
    """Result and gradients, in training as in evaluation."""
    torch.manual_seed(sum(size))
    conv = HalvingDepthwiseConv(5).double()
    images = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(images, conv.weight, stride=2, padding=1, groups=5)
    wanted = torch.autograd.grad(expected.square().sum(), (images, conv.weight))
    for mode in (True, False):
        got = conv.train(mode)(images)
        assert got.shape == expected.shape
        torch.testing.assert_close(got, expected)
        for one, other in zip(torch.autograd.grad(got.square().sum(), (images, conv.weight)), wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_every_strided_depthwise_convolution_is_one() -> None:
    body = MobileNetV2()
    halving = [module for module in body.modules() if isinstance(module, HalvingDepthwiseConv)]
    strided = [m for m in body.modules() if isinstance(m, torch.nn.Conv2d) and m.stride == (2, 2) and m.groups > 1]
    assert len(halving) == 4
    assert strided == halving
    assert (
        body.train()(torch.zeros(2, 3, 64, 32)).shape == body.eval()(torch.zeros(2, 3, 64, 32)).shape == (2, 1280, 2, 1)
    )
