"""Tombstones and compaction: what is gone is not found from that moment on, and leaves the disk; the rest stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from gallery_service.databases.gallery import GALLERY
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.indexing import compaction
from gallery_service.indexing.compaction import compact, remove_unnamed, store_segment
from gallery_service.search.tracklet_vectors import TrackletVectors, gather_vectors
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import Segment, day_of, make_segment, read_segment

DIM = 4
DAY_US = 86_400_000_000
MODEL = "m-1"


class Gallery:
    """A gallery filled without shards or a model, and what it should hold: a vector by shard and tracklet id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = GalleryRepository(SqliteFile(folder / "gallery.sqlite", GALLERY).open())
        self.expected: dict[tuple[str, str], np.ndarray] = {}
        self.held: TrackletVectors | None = None
        self.reads: list[str] = []

    def put(self, shard: str, days: list[int], recording: str | None = None, version: str = MODEL) -> None:
        """A shard of camera "cam1" with a tracklet of two crops for each day given."""
        generator = np.random.default_rng([ord(letter) for letter in shard + version])
        rows, segments = [], []
        for number, day in enumerate(days):
            tracklet_id = f"cam1/{recording or shard}/{number}"
            rows.append(
                {
                    "tracklet_id": tracklet_id, "start_pts_s": 0.0, "end_pts_s": 1.0, "first_seen": day * DAY_US + 5,
                    "last_seen": day * DAY_US + 9, "time_source": "start", "crops": 2, "best_crop_offset": 0,
                    "best_crop_length": 1, "quality": 0.5,
                }
            )  # fmt: skip
        for day in sorted(set(days)):
            ids = [row["tracklet_id"] for row in rows if row["first_seen"] // DAY_US == day]
            vectors = generator.normal(size=(2 * len(ids), DIM)).astype(np.float16)
            hashes = generator.integers(0, 256, (len(vectors), 32), dtype=np.uint8)
            owner = np.repeat(np.arange(len(ids), dtype=np.int32), 2)
            segment = make_segment(
                version, "cam1", day_of(day * DAY_US), [(f"cam1/{shard}", name) for name in ids], owner, vectors, hashes
            )
            segments.append(store_segment(self.folder, segment))
            for row, mean in zip(segment.rows(), segment.means, strict=True):
                self.expected[row] = mean
        row = {
            "shard": f"cam1/{shard}", "camera_id": "cam1", "recording_sha256": recording or shard,
            "tracklets": len(days), "crops": 2 * len(days), "summary_sha256": "0" * 64,
        }  # fmt: skip
        self.repository.put_shard(version, row, rows, segments)

    def lose(self, *rows: tuple[str, str]) -> None:
        for row in rows:
            self.expected.pop(row, None)

    def found(self, version: str = MODEL) -> dict[tuple[str, str], np.ndarray]:
        """What a search could find, the same when it is read anew and when it is filled from what was in memory."""
        searchable, before = self.repository.searchable(version), self.held

        def gather(before: TrackletVectors | None) -> dict[tuple[str, str], np.ndarray]:
            found, held = gather_vectors(self.read, version, DIM, searchable.segments, searchable.tracklets, before)
            assert found == searchable.tracklets
            self.held = held
            rows = zip(held.shards, held.tracklet_ids, strict=True)
            assert list(rows) == [(one.shard, one.tracklet_id) for one in found]
            return dict(zip(zip(held.shards, held.tracklet_ids, strict=True), held.vectors, strict=True))

        anew = gather(None)
        filled = gather(before)
        assert filled.keys() == anew.keys()
        assert all(np.array_equal(filled[row], anew[row]) for row in anew)
        return anew

    def read(self, name: str) -> Segment:
        self.reads.append(name)
        return read_segment(self.folder, name, tensors=("means",))

    def on_disk(self) -> set[tuple[str, str]]:
        """Everything that any vector file holds, named or not."""
        files = [path.relative_to(self.folder).with_suffix("") for path in self.folder.rglob("*.safetensors")]
        return {row for name in files for row in read_segment(self.folder, str(name)).rows()}

    def check(self) -> None:
        found = self.found()
        assert found.keys() == self.expected.keys()
        assert all(np.array_equal(found[row], self.expected[row]) for row in found)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path)


def test_a_tombstone_holds_at_once_and_its_vector_leaves_the_disk(gallery: Gallery) -> None:
    gallery.put("a", [1, 1, 2])
    gallery.put("b", [1])
    gone = ("cam1/a", "cam1/a/0")
    before = gallery.repository.generation()
    gallery.repository.tombstone([gone])
    gallery.lose(gone)
    assert gallery.repository.generation() > before
    gallery.check()
    assert gone in gallery.on_disk()
    done = compact(gallery.folder, gallery.repository, many=99)
    assert (done.dropped, done.damaged) == (1, [])
    gallery.check()
    assert gallery.on_disk() == set(gallery.expected)
    # Nothing is left to do.
    assert compact(gallery.folder, gallery.repository, many=99).replaced == 0


def test_many_tombstones_mark_a_segment_once(gallery: Gallery) -> None:
    """Each change reads the row again, and meanwhile nobody else can write."""
    gallery.put("a", [1] * 9)
    sent: list[str] = []
    listener = lambda *given: sent.append(given[2])  # noqa: E731
    event.listen(gallery.repository.engine, "before_cursor_execute", listener)
    gallery.repository.tombstone([("cam1/a", f"cam1/a/{number}") for number in range(9)])
    assert len([statement for statement in sent if statement.startswith("UPDATE segments")]) == 1
    assert len([statement for statement in sent if "FROM segments" in statement]) < 9 + 3


def test_a_tombstone_comes_before_its_tracklet_and_outlives_its_shard(gallery: Gallery) -> None:
    gone = ("cam1/a", "cam1/a/0")
    gallery.repository.tombstone([gone])
    for _ in range(2):
        gallery.put("a", [1, 1])
        gallery.lose(gone)
        gallery.check()
        compact(gallery.folder, gallery.repository, many=99)
        assert gone not in gallery.on_disk()
        gallery.repository.remove_shards(["cam1/a"])
        gallery.lose(("cam1/a", "cam1/a/1"))
        compact(gallery.folder, gallery.repository, many=99)
        assert gallery.on_disk() == set()


def test_a_tombstone_is_of_one_shard_and_not_of_what_is_numbered_alike_later(gallery: Gallery) -> None:
    gallery.put("a", [1], recording="r")
    gallery.repository.tombstone([("cam1/a", "cam1/r/0")])
    gallery.lose(("cam1/a", "cam1/r/0"))
    gallery.put("b", [1], recording="r")
    gallery.check()
    assert gallery.found().keys() == {("cam1/b", "cam1/r/0")}


def test_a_shard_that_supersedes_another_takes_its_place_in_one_step(gallery: Gallery) -> None:
    gallery.put("a", [1, 1, 3], recording="r")
    gallery.put("b", [1], recording="r")
    gallery.lose(*[row for row in gallery.expected if row[0] == "cam1/a"])
    gallery.check()
    compact(gallery.folder, gallery.repository, many=99)
    gallery.check()
    assert gallery.on_disk() == set(gallery.expected)


def test_small_segments_of_a_day_become_one_and_large_ones_stay(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        gallery.put(name, [1, 1, 2])
    assert len(gallery.repository.segments()) == 8
    assert compact(gallery.folder, gallery.repository, many=5).replaced == 0
    assert compact(gallery.folder, gallery.repository, many=4).replaced == 8
    gallery.check()
    merged = {segment.day: segment for segment in gallery.repository.segments()}
    assert {day: segment.tracklets for day, segment in merged.items()} == {"1970-01-02": 8, "1970-01-03": 4}
    assert len(list(gallery.folder.rglob("*.safetensors"))) == 2
    monkeypatch.setattr(compaction, "SMALL_BYTES", merged["1970-01-02"].size_bytes)
    for name in "ef":
        gallery.put(name, [1])
    compact(gallery.folder, gallery.repository)
    assert merged["1970-01-02"] in gallery.repository.segments()
    assert len(gallery.repository.segments()) == 3
    # But a large one that holds what is gone does not.
    gallery.repository.tombstone([("cam1/a", "cam1/a/0")])
    gallery.lose(("cam1/a", "cam1/a/0"))
    compact(gallery.folder, gallery.repository, many=99)
    gallery.check()
    assert gallery.on_disk() == set(gallery.expected)


def test_erased_while_a_compaction_reads_it_goes_with_the_next(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.put("a", [1, 1])
    gallery.put("b", [1])
    gone = ("cam1/a", "cam1/a/0")
    living = GalleryRepository.living

    def erased_meanwhile(repository: GalleryRepository, shards: set[str]) -> tuple[int, set[tuple[str, str]]]:
        answer = living(repository, shards)
        repository.tombstone([gone])
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(GalleryRepository, "living", erased_meanwhile)
        compact(gallery.folder, gallery.repository)
    gallery.lose(gone)
    gallery.check()
    assert gone in gallery.on_disk()
    compact(gallery.folder, gallery.repository)
    gallery.check()
    assert gone not in gallery.on_disk()


def test_a_damaged_segment_is_forgotten_and_named(gallery: Gallery) -> None:
    gallery.put("a", [1])
    gallery.put("b", [1, 2])
    path = next(path for path in gallery.folder.rglob("*.safetensors") if "1970-01-03" in str(path))
    path.write_bytes(path.read_bytes()[:-1])
    gallery.repository.tombstone([("cam1/b", "cam1/b/1")])
    done = compact(gallery.folder, gallery.repository, many=99)
    assert [str(path) in problem for problem in done.damaged] == [True]
    gallery.lose(("cam1/b", "cam1/b/1"))
    gallery.check()


def test_models_are_compacted_apart(gallery: Gallery) -> None:
    gallery.put("a", [1])
    gallery.put("a", [1], version="m-2")
    expected = gallery.expected[("cam1/a", "cam1/a/0")]
    gallery.put("b", [1], version="m-2")
    compact(gallery.folder, gallery.repository)
    assert np.array_equal(gallery.found("m-2")[("cam1/a", "cam1/a/0")], expected)
    assert not np.array_equal(
        read_segment(gallery.folder, gallery.repository.segments(MODEL)[0].name).means[0], expected
    )
    gallery.repository.remove_versions({MODEL})
    remove_unnamed(gallery.folder, gallery.repository)
    assert [path.name for path in gallery.folder.iterdir() if path.is_dir()] == ["m-2"]


def test_a_cache_beside_a_segment_stays_and_goes_with_it(gallery: Gallery) -> None:
    gallery.put("a", [1])
    gallery.put("b", [1])
    caches = [path.with_suffix(".faiss") for path in gallery.folder.rglob("*.safetensors")]
    stray = caches[0].with_name("0" * 32 + ".faiss")
    for path in (*caches, stray):
        path.touch()
    remove_unnamed(gallery.folder, gallery.repository)
    assert all(path.exists() for path in caches)
    assert not stray.exists()
    compact(gallery.folder, gallery.repository)
    assert not any(path.exists() for path in caches)


def test_a_change_costs_reading_what_is_new_and_no_more(gallery: Gallery) -> None:
    gallery.put("a", [1, 1, 2])
    gallery.put("b", [1])
    gallery.check()

    def read_after_a_change() -> set[str]:
        """By the second of the two ways alone: the first reads everything."""
        gallery.reads.clear()
        gallery.check()
        every = [segment.name for segment in gallery.repository.segments(MODEL)]
        assert gallery.reads[: len(every)] == sorted(every)
        return set(gallery.reads[len(every) :])

    old = {segment.name for segment in gallery.repository.segments(MODEL)}
    assert read_after_a_change() == set()
    gallery.put("c", [1])
    (new,) = {segment.name for segment in gallery.repository.segments(MODEL)} - old
    assert read_after_a_change() == {new}
    gallery.repository.tombstone([("cam1/a", "cam1/a/0")])
    gallery.lose(("cam1/a", "cam1/a/0"))
    assert read_after_a_change() == set()
    assert gallery.held is not None
    assert len(gallery.held.vectors) == 4, "nothing is left of it in memory"

    # Put back as it was: the segment of that day is known by name, but was not wholly taken.
    gallery.repository.remove_shards(["cam1/b"])
    came_back = gallery.expected["cam1/b", "cam1/b/0"]
    gallery.lose(("cam1/b", "cam1/b/0"))
    assert read_after_a_change() == set()
    gallery.put("b", [1])
    assert np.array_equal(gallery.expected["cam1/b", "cam1/b/0"], came_back)
    assert len(read_after_a_change()) == 1


def test_what_two_segments_have_is_there_as_long_as_one_of_them_is(gallery: Gallery) -> None:
    gallery.put("a", [1, 1])
    row = ("cam1/a", "cam1/a/0")
    vector = gallery.expected[row][None]
    crop = np.zeros(1, np.int32), vector, np.zeros((1, 32), np.uint8)
    stored = store_segment(gallery.folder, make_segment(MODEL, "cam1", day_of(DAY_US), [row], *crop))
    first = gallery.repository.segments(MODEL)
    gallery.repository.replace_segments([], [stored], gallery.repository.generation())
    searchable = gallery.repository.searchable(MODEL)
    for gone in (first[0].name, stored.name):
        names = [name for name in searchable.segments if name != gone]
        _, both = gather_vectors(gallery.read, MODEL, DIM, searchable.segments, searchable.tracklets)
        found, _ = gather_vectors(gallery.read, MODEL, DIM, names, searchable.tracklets, both)
        assert row[1] in [one.tracklet_id for one in found]


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "tombstone", "remove", "compact"]), st.integers(0, 5), st.integers(0, 3)),
    max_size=12,
)


@given(STEPS)
@settings(max_examples=25)
def test_whatever_happens_what_is_found_is_what_was_put_and_not_taken(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    gallery = Gallery(tmp_path_factory.mktemp("gallery"))
    buried: set[tuple[str, str]] = set()
    present: set[str] = set()
    for step, number, tracklet in steps:
        shard = f"s{number}"
        row = (f"cam1/{shard}", f"cam1/{shard}/{tracklet}")
        if step == "put":
            gallery.put(shard, [number % 2 + at % 2 for at in range(3)])
            present.add(shard)
        elif step == "tombstone":
            gallery.repository.tombstone([row])
            buried.add(row)
        elif step == "remove":
            gallery.repository.remove_shards([f"cam1/{shard}"])
            present.discard(shard)
        else:
            compact(gallery.folder, gallery.repository, many=number + 2)
        gone = [one for one in gallery.expected if one in buried or one[0].removeprefix("cam1/") not in present]
        gallery.lose(*gone)
        gallery.check()
    compact(gallery.folder, gallery.repository)
    gallery.check()
    assert gallery.on_disk() == set(gallery.expected)
    gallery.repository.close()
