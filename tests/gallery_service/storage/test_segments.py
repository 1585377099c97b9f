"""Segments: what is read is what was written, or an error."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.errors import GalleryError, SegmentError
from gallery_service.storage import segments
from gallery_service.storage.segments import (
    SCHEMA,
    UNTIMED,
    Segment,
    day_of,
    make_segment,
    read_segment,
    segment_path,
    tracklet_means,
    write_segment,
)

DAY = "2026-03-01"
TENSORS = ("means", "crops", "crop_tracklet", "crop_sha256")


def some_segment(tracklets: int = 3, crops: int = 7, dim: int = 5, seed: int = 0) -> Segment:
    """Tracklets of two shards, in no order."""
    generator = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(tracklets), generator.integers(0, max(1, tracklets), crops - tracklets)])
    vectors = generator.normal(size=(crops, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hashes = [hashlib.sha256(f"{seed} {crop}".encode()).digest() for crop in range(crops)]
    return make_segment(
        "m-1",
        "cam1",
        DAY,
        [(f"cam1/s{n % 2}", f"cam1/v/{n}") for n in range(tracklets)],
        owner.astype(np.int32),
        vectors.astype(np.float16),
        np.frombuffer(b"".join(hashes), np.uint8).reshape(crops, 32),
    )


def same(one: Segment, other: Segment) -> bool:
    plain = [(s.model_version, s.camera_id, s.day, s.shards, list(s.rows())) for s in (one, other)]
    return plain[0] == plain[1] and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in (*TENSORS, "tracklet_shard")
    )


def test_reads_what_was_written(tmp_path: Path) -> None:
    written = some_segment()
    name = write_segment(tmp_path, written)
    assert name.rsplit("/", 1)[0] == f"m-1/cam1/{DAY}"
    assert segment_path(tmp_path, name) == tmp_path / f"{name}.safetensors"
    assert same(read_segment(tmp_path, name), written)
    assert list(written.rows()) == [("cam1/s0", "cam1/v/0"), ("cam1/s0", "cam1/v/2"), ("cam1/s1", "cam1/v/1")]


def test_ordinary_tools_open_it(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    written = some_segment()
    tensors = load_file(segment_path(tmp_path, write_segment(tmp_path, written)))
    assert sorted(tensors) == sorted(TENSORS)
    np.testing.assert_array_equal(tensors["crops"], written.crops)


@given(st.permutations(range(6)), st.integers(0, 100))
def test_the_same_vectors_make_the_same_segment_however_they_came_together(order: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    owner = np.repeat(np.arange(6, dtype=np.int32), 2)
    vectors = generator.normal(size=(12, 4)).astype(np.float16)
    hashes = generator.integers(0, 256, (12, 32), dtype=np.uint8)
    rows = [(f"cam1/s{n % 3}", f"cam1/v/{n}") for n in range(6)]
    place = {tracklet: at for at, tracklet in enumerate(order)}
    crops = [crop for tracklet in order for crop in (2 * tracklet, 2 * tracklet + 1)]
    moved = make_segment(
        "m-1",
        "cam1",
        DAY,
        [rows[tracklet] for tracklet in order],
        np.array([place[int(owner[crop])] for crop in crops], np.int32),
        vectors[crops],
        hashes[crops],
    )
    assert same(moved, make_segment("m-1", "cam1", DAY, rows, owner, vectors, hashes))


def test_the_same_vectors_give_the_same_bytes_and_name(tmp_path: Path) -> None:
    names = {write_segment(tmp_path / folder, some_segment()) for folder in "ab"}
    assert len(names) == 1
    assert write_segment(tmp_path, some_segment(seed=1)) not in names


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    name = write_segment(tmp_path, some_segment())
    path = segment_path(tmp_path, name)
    content = path.read_bytes()
    crops = some_segment().crops.tobytes()
    at = content.index(crops)
    path.write_bytes(content[:at] + bytes(len(crops)) + content[at + len(crops) :])
    found = read_segment(tmp_path, name, tensors=("means",))
    np.testing.assert_array_equal(found.means, some_segment().means)
    assert found.crops.shape == (0, 5)
    with pytest.raises(SegmentError, match="checksum of its crops"):
        read_segment(tmp_path, name)


@given(data=st.data())
def test_no_damage_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever byte it is: the name is the digest of the header, and the header has those of the tensors."""
    folder = tmp_path_factory.mktemp("segment")
    name = write_segment(folder, some_segment())
    path = segment_path(folder, name)
    content = bytearray(path.read_bytes())
    what = data.draw(st.sampled_from(["cut", "lengthened", "flipped"]), "damage")
    if what == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    elif what == "lengthened":
        content += data.draw(st.binary(min_size=1, max_size=9), "more")
    else:
        content[data.draw(st.integers(0, len(content) - 1), "byte")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path.write_bytes(content)
    with pytest.raises(SegmentError) as caught:
        read_segment(folder, name)
    assert str(path) in str(caught.value)
    assert "index command" in str(caught.value)
    assert caught.value.name == name


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_no_number_is_damage(tmp_path: Path, value: float) -> None:
    segment = some_segment()
    segment.means[1, 2] = value
    name = write_segment(tmp_path, segment)
    with pytest.raises(SegmentError, match="no finite number"):
        read_segment(tmp_path, name, ("means",))


def test_a_segment_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    name = write_segment(tmp_path, some_segment())
    other = name.replace("m-1", "m-2")
    segment_path(tmp_path, other).parent.mkdir(parents=True)
    segment_path(tmp_path, name).rename(segment_path(tmp_path, other))
    with pytest.raises(SegmentError, match=f"belongs to m-1/cam1/{DAY}"):
        read_segment(tmp_path, other)


def test_one_of_a_newer_version_is_not_taken_for_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that goes on through an update would forget it, and everything would be embedded again."""
    monkeypatch.setattr(segments, "SCHEMA", SCHEMA + 1)
    newer = write_segment(tmp_path, some_segment())
    monkeypatch.undo()
    with pytest.raises(GalleryError, match="newer version") as refused:
        read_segment(tmp_path, newer)
    assert not isinstance(refused.value, SegmentError)


def test_a_missing_segment_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="missing; run the index command"):
        read_segment(tmp_path, f"m-1/cam1/{DAY}/{'0' * 32}")


@given(st.none() | st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)))
def test_a_day_is_that_of_utc(moment: datetime | None) -> None:
    if moment is None:
        assert day_of(None) == UNTIMED
        return
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    assert day_of(microseconds) == moment.date().isoformat()


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
