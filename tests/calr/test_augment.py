import pytest
import torch

from calr.augment import Augment


def _images(n: int = 6, h: int = 32, w: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, h, w), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)


def test_without_any_change_only_mirrors_remain() -> None:
    images = _images(40)
    out = Augment(pad=0, colour=0.0, erase=0.0, seed=1)(images)
    mirrored = 0
    for before, after in zip(images.float(), out, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))
        mirrored += int(not torch.equal(after, before))
    assert 8 < mirrored < 32


def test_shift_moves_content_by_at_most_the_padding_and_fills_with_zero() -> None:
    images = torch.zeros(200, 3, 20, 10, dtype=torch.uint8)
    images[:, :, 10, 5] = 200
    out = Augment(pad=3, colour=0.0, erase=0.0, seed=2)(images)
    assert torch.equal(out.amax((1, 2, 3)), torch.full((200,), 200.0))
    rows = out[:, 0].amax(2).argmax(1) - 10
    assert rows.min() == -3 and rows.max() == 3
    # Mirrored, column 5 becomes 4.
    columns = out[:, 0].amax(1).argmax(1)
    assert columns.min() == 1 and columns.max() == 8


def test_erasing_covers_two_to_forty_per_cent_with_the_mean_colour() -> None:
    images = torch.full((300, 3, 64, 32), 7, dtype=torch.uint8)
    out = Augment(pad=0, colour=0.0, erase=0.5, seed=3)(images)
    hole = (out != 7).all(1)
    share = hole.float().mean((1, 2))
    assert 0.35 < float((share > 0).float().mean()) < 0.65
    assert share[share > 0].min() > 0.01 and share.max() < 0.45
    colours = out.permute(0, 2, 3, 1)[hole].unique(dim=0)
    torch.testing.assert_close(colours, torch.tensor([Augment.MEAN]))


def test_colour_changes_stay_in_range_and_keep_black_and_white_apart() -> None:
    images = _images(50)
    out = Augment(pad=0, colour=0.15, erase=0.0, seed=4)(images)
    assert out.min() >= 0 and out.max() <= 255
    brightness = out.mean((1, 2, 3)) / images.float().mean((1, 2, 3))
    assert 0.8 < brightness.min() < 0.95 and 1.05 < brightness.max() < 1.2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_same_seed_same_images_and_the_input_is_untouched(dtype: torch.dtype) -> None:
    images = _images().to(dtype)
    kept = images.clone()
    one = Augment(4, 0.15, 0.5, seed=9)(images)
    two = Augment(4, 0.15, 0.5, seed=9)(images)
    assert torch.equal(one, two)
    assert torch.equal(images, kept)
    assert one.dtype == torch.float32
    assert not torch.equal(one, Augment(4, 0.15, 0.5, seed=10)(images))
