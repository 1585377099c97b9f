"""Features are the same whoever computes them."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from calr import features
from calr.features import extract
from calr.precision import Precision
from models.reid import ARCHITECTURES, build_reid
from tests.affinity import share_tied, tied_threads

FLOAT = Precision("cpu", bf16=False)


@pytest.mark.skipif(find_spec("openvino") is None, reason="only the openvino extra has OpenVINO")
@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
@pytest.mark.parametrize("pooling", ["avg", "gem"])
def test_compiled_features_are_those_of_the_network(arch: str, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    net = build_reid(arch, pooling=pooling).train()
    images = torch.randint(0, 256, (11, 3, 64, 32), dtype=torch.uint8)
    plain = extract(net, images, FLOAT, 4)
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(features, "WORTH_COMPILING", 1)
    compiled = extract(net, images, FLOAT, 4, lambda done, total: calls.append((done, total)))
    np.testing.assert_allclose(compiled, plain, atol=2e-4)
    assert net.training, "left as it came"
    assert calls == [(4, 11), (8, 11), (11, 11)]
    assert np.array_equal(compiled, extract(net, images, FLOAT, 4)), "the same twice"


@pytest.mark.skipif(find_spec("openvino") is None, reason="only the openvino extra has OpenVINO")
def test_compiled_features_are_not_tied_to_some_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "WORTH_COMPILING", 1)
    net = build_reid("osnet_x0_25")
    images = torch.randint(0, 256, (1024, 3, 64, 32), dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert share_tied(lambda: extract(net, images, FLOAT), tied_threads()) < 0.01
    finally:
        torch.set_num_threads(threads)


def test_features_have_length_one_and_follow_the_weights() -> None:
    torch.manual_seed(1)
    net = build_reid("osnet_x0_25").eval()
    images = torch.randint(0, 256, (5, 3, 64, 32), dtype=torch.uint8)
    before = extract(net, images, FLOAT, 2)
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-5)
    assert before.dtype == np.float32
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.9)
    assert not np.allclose(before, extract(net, images, FLOAT, 2))


def test_no_images_no_features() -> None:
    net = build_reid("osnet_x0_25")
    assert extract(net, torch.zeros((0, 3, 64, 32), dtype=torch.uint8), FLOAT).shape == (0, 0)
