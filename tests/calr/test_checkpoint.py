from pathlib import Path

import pytest
import torch

from calr.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    module_tensors,
    optimiser_tensors,
    restore_module,
    restore_optimiser,
    save_checkpoint,
)


def _net() -> torch.nn.Module:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten())
    return net.to(memory_format=torch.channels_last)


def _step(net: torch.nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    net(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    optimiser.step()


def test_net_and_optimiser_go_on_as_if_never_stored(tmp_path: Path) -> None:
    net = _net()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for seed in range(3):
        _step(net, optimiser, seed)
    save_checkpoint(tmp_path, Checkpoint(1, {**module_tensors("net", net), **optimiser_tensors(optimiser)}, {}))
    for seed in range(3, 6):
        _step(net, optimiser, seed)

    found = latest_checkpoint(tmp_path)
    assert found is not None
    other = _net()
    other_optimiser = torch.optim.Adam(other.parameters(), lr=0.01)
    restore_module("net", other, found.tensors)
    restore_optimiser(other_optimiser, found.tensors)
    moment = other_optimiser.state[next(other.parameters())]["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    for seed in range(3, 6):
        _step(other, other_optimiser, seed)
    for one, two in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_the_last_two_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nothing") is None
    for number in range(1, 12):
        save_checkpoint(tmp_path, Checkpoint(number, {"x": torch.tensor([number])}, {"history": [number]}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0010.safetensors", "0011.safetensors"]
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.number == 11
    assert found.tensors["x"].tolist() == [11] and found.state == {"history": [11]}


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, b"{"])
def test_damaged_files_are_passed_over(tmp_path: Path, damage: bytes) -> None:
    for number in (1, 2):
        save_checkpoint(tmp_path, Checkpoint(number, {"x": torch.tensor([number])}, {}))
    (tmp_path / "0002.safetensors").write_bytes(damage)
    (tmp_path / ".0003.safetensors.tmp").write_bytes(b"half")
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.number == 1


def test_a_restored_module_must_fit(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        restore_module("net", _net(), {})
