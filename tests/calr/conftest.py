"""What several tests of the method share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.reid import build_reid


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people of one colour each, seen by two cameras; six images in each."""
    root = tmp_path_factory.mktemp("market")
    draw = np.random.default_rng(0)
    for part, people in (
        ("bounding_box_train", range(8)),
        ("query", range(8, 12)),
        ("bounding_box_test", range(8, 12)),
    ):
        (root / part).mkdir()
        for person in people:
            colour = np.random.default_rng(person).integers(0, 256, 3)
            for camera in (1, 2):
                for number in range(1 if part == "query" else 6):
                    image = np.clip(colour + draw.normal(0, 12, (64, 32, 3)), 0, 255).astype(np.uint8)
                    cv2.imwrite(str(root / part / f"{person:04d}_c{camera}s1_{number:06d}_00.jpg"), image)
    torch.manual_seed(3)
    save_file(build_reid("osnet_x0_25").state_dict(), root / "start.safetensors")
    return root
