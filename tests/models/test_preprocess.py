"""models.preprocess: one definition of the network's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from models.preprocess import PIXEL_MEAN, PIXEL_STD, normalise, resize_crop, to_batch


def test_normalise_is_torchvisions() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 6), dtype=torch.uint8)
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(PIXEL_MEAN, PIXEL_STD)])
    torch.testing.assert_close(normalise(images), reference(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalise(images.float()), reference(images), rtol=0, atol=1e-5)


def test_resize_changes_bgr_to_rgb_and_keeps_an_image_of_the_right_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_crop(image, (8, 4)), image[:, :, ::-1])


def test_shrinking_averages() -> None:
    # A checkerboard of pixels: sampling would give black or white, averaging gives grey.
    board = ((np.indices((64, 32)).sum(axis=0) % 2) * 255).astype(np.uint8)
    small = resize_crop(np.repeat(board[:, :, None], 3, axis=2), (16, 8))
    assert small.min() >= 127
    assert small.max() <= 128


def test_each_axis_by_itself() -> None:
    # 64 rows shrink to 16, 4 columns grow to 8: rows are averaged although columns grow.
    board = np.zeros((64, 4, 3), np.uint8)
    board[::2] = 255
    out = resize_crop(board, (16, 8))
    assert out.shape == (16, 8, 3)
    assert out.min() >= 127
    assert out.max() <= 128


@pytest.mark.parametrize("source", [(1, 1), (1, 500), (500, 1), (300, 100), (50, 20)])
def test_any_size_comes_out_right(source: tuple[int, int]) -> None:
    out = resize_crop(np.full((*source, 3), 77, np.uint8), (256, 128))
    assert out.shape == (256, 128, 3)
    assert out.flags.c_contiguous
    assert (out == 77).all()


def test_to_batch() -> None:
    crops = [np.full((h, 10, 3), (1, 2, 3), np.uint8) for h in (5, 20)]
    batch = to_batch(crops, (16, 8))
    assert batch.shape == (2, 3, 16, 8)
    assert batch.dtype == np.float32
    assert batch[:, :, 0, 0].tolist() == [[3, 2, 1]] * 2
    assert to_batch([], (16, 8)).shape == (0, 3, 16, 8)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8"):
        resize_crop(bad, (16, 8))
