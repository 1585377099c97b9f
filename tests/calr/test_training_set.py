"""One camera's part of a training set says the same about its crops as the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tests.calr.toy_people import toy_people


def test_a_camera_by_itself() -> None:
    data = replace(toy_people(people=4, cameras=3), cannot_link=np.array([[0, 3], [4, 5], [5, 7], [8, 9]]))
    shuffled = np.random.default_rng(0).permutation(len(data))
    data = replace(
        data,
        images=data.images[torch.from_numpy(shuffled)],
        node=data.node[shuffled],
        camera=data.camera[shuffled],
        identity=None if data.identity is None else data.identity[shuffled],
    )
    part = data.of_camera(1)
    assert data.identity is not None and part.identity is not None
    crops = np.flatnonzero(data.camera == 1)
    assert len(part) == len(crops) == 24 and part.nodes == 4
    np.testing.assert_array_equal(part.node + 4, data.node[crops])
    np.testing.assert_array_equal(part.identity, data.identity[crops])
    assert torch.equal(part.images, data.images[torch.from_numpy(crops)])
    assert part.cannot_link.tolist() == [[0, 1], [1, 3]]
    assert set(part.camera) == set(part.node_camera) == {1}
    assert replace(data, cannot_link=np.zeros((0, 2), np.int64)).of_camera(2).cannot_link.shape == (0, 2)
