"""Segments: what is read is what was written, or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.errors import SegmentError
from gallery_service.segments import Segment, read_segment, segment_path, tracklet_means, write_segment


def make_segment(tracklets: int = 3, crops: int = 7, dim: int = 5, seed: int = 0) -> Segment:
    generator = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(tracklets), generator.integers(0, max(1, tracklets), crops - tracklets)])
    vectors = generator.normal(size=(crops, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = owner.astype(np.int32)
    return Segment(
        model_version="m-1",
        shard="cam1/s",
        tracklet_ids=[f"cam1/v/{n}" for n in range(tracklets)],
        crop_ids=[f"cam1/v/{owner[n]}/{n}" for n in range(crops)],
        crop_tracklet=owner,
        means=tracklet_means(vectors, owner, tracklets),
        crops=vectors.astype(np.float16),
    )


def read(path: Path) -> Segment:
    return read_segment(path, model_version="m-1", shard="cam1/s")


def test_reads_what_was_written(tmp_path: Path) -> None:
    written = make_segment()
    path = segment_path(tmp_path, "m-1", "cam1/s")
    write_segment(path, written)
    found = read(path)
    assert path == tmp_path / "m-1" / "cam1" / "s.safetensors"
    assert (found.tracklet_ids, found.crop_ids) == (written.tracklet_ids, written.crop_ids)
    np.testing.assert_array_equal(found.means, written.means)
    np.testing.assert_array_equal(found.crops, written.crops)
    np.testing.assert_array_equal(found.crop_tracklet, written.crop_tracklet)
    assert (found.means.dtype, found.crops.dtype) == (np.float32, np.float16)


def test_an_empty_shard_has_a_segment_too(tmp_path: Path) -> None:
    write_segment(tmp_path / "s", make_segment(0, 0))
    assert read(tmp_path / "s").means.shape == (0, 5)


def test_the_same_vectors_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_segment(tmp_path / name, make_segment())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(data=st.data())
def test_no_damage_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("segment") / "s"
    write_segment(path, make_segment())
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut short"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        where = data.draw(st.integers(0, len(content) - 1), "byte")
        content[where] ^= data.draw(st.integers(1, 255), "flip")
    path.write_bytes(content)
    try:
        found = read(path)
    except SegmentError as error:
        assert str(path) in str(error)
        assert "index command" in str(error)
    else:
        # Bytes that mean nothing (a space in the header) may change; vectors and ids may not.
        np.testing.assert_array_equal(found.means, make_segment().means)
        np.testing.assert_array_equal(found.crops, make_segment().crops)
        assert found.tracklet_ids == make_segment().tracklet_ids


@pytest.mark.parametrize(("version", "shard"), [("m-2", "cam1/s"), ("m-1", "cam2/s")])
def test_a_segment_in_the_wrong_place_is_refused(tmp_path: Path, version: str, shard: str) -> None:
    write_segment(tmp_path / "s", make_segment())
    with pytest.raises(SegmentError, match="another model or shard"):
        read_segment(tmp_path / "s", model_version=version, shard=shard)


def test_a_missing_segment_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="run the index command"):
        read(tmp_path / "absent")


@given(st.integers(1, 6), st.integers(0, 20), st.integers(1, 8), st.integers(0, 10**6))
def test_means_are_those_of_the_slow_way(tracklets: int, more: int, dim: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(tracklets), generator.integers(0, tracklets, more)]).astype(np.int32)
    vectors = generator.normal(size=(len(owner), dim)).astype(np.float32)
    found = tracklet_means(vectors, owner, tracklets)
    for row in range(tracklets):
        mean = np.mean([vectors[i].astype(float) for i in range(len(owner)) if owner[i] == row], axis=0)
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), atol=1e-5)


def test_crops_that_cancel_out_make_no_nan() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    np.testing.assert_array_equal(tracklet_means(vectors, np.zeros(2, np.int32), 1), [[0, 0]])
