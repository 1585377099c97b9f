"""One recording, from file to shard, with a detector that finds blue blocks."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from ingest.detection import Detections
from ingest.erasures import Erasure
from ingest.recording import RecordingJob, ingest_recording
from ingest.shards import CROPS, MANIFEST, MANIFEST_SCHEMA, TRACKLETS, TRACKLETS_SCHEMA, load_crops, open_shard
from ingest.site import Camera, Detector
from ingest.video import VideoError
from models.atomic import sha256_file
from tests.ingest.conftest import FPS, HEIGHT, WIDTH, BlueDetector, Walker, draw, make_job, write_video


@pytest.fixture(scope="module")
def two_walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks, the second from second 2 to 5."""
    walkers = [Walker(feet=110), Walker(feet=220, start=2.0, end=5.0)]
    return write_video(tmp_path_factory.mktemp("two") / "two.mp4", 6.0, walkers, creation_time="2026-03-01T08:00:00Z")


def test_tracklets_and_crops_are_where_the_blocks_are(two_walks: Path, tmp_path: Path) -> None:
    summary = ingest_recording(make_job(two_walks, tmp_path / "s"), detector=BlueDetector())
    assert summary["counts"] == {"frames": 120, "frames_looked_at": 60, "detections": 90, "tracklets": 2, "crops": 16}
    shard = open_shard(tmp_path / "s")
    crops, tracklets = shard.crops(), shard.tracklets()
    assert crops.schema.equals(MANIFEST_SCHEMA)
    assert tracklets.schema.equals(TRACKLETS_SCHEMA)
    rows = tracklets.to_pylist()
    assert rows[0]["start_pts_s"] == 0.0
    late = next(row for row in rows if row["start_pts_s"] > 1)
    assert late["start_pts_s"] == pytest.approx(2.0, abs=0.11)  # ByteTrack confirms a track at its second detection
    assert late["end_pts_s"] == pytest.approx(4.9, abs=1e-6)
    assert late["first_seen"] == datetime(2026, 3, 1, 8, tzinfo=UTC) + timedelta(seconds=late["start_pts_s"])
    assert late["time_source"] == "container"
    assert 5 <= len(late["path"]) <= 8
    assert late["entry_box"][0] < late["exit_box"][0]
    for row in crops.to_pylist():
        assert row["captured_at"] == datetime(2026, 3, 1, 8, tzinfo=UTC) + timedelta(seconds=row["pts_s"])
        assert row["frame_index"] == round(row["pts_s"] * 20)
        walker = Walker(feet=110) if row["y2"] < 150 else Walker(feet=220, start=2.0)
        np.testing.assert_allclose([row["x1"], row["y1"], row["x2"], row["y2"]], walker.box(row["pts_s"]), atol=3)
    loaded = load_crops([shard])
    for i in range(len(loaded)):
        image = loaded.image(i).astype(int)
        assert image.shape[0] >= 70
        assert (image[..., 0] - image[..., 2]).mean() > 80  # it is blue


def test_crops_are_spread_over_the_whole_length(two_walks: Path, tmp_path: Path) -> None:
    ingest_recording(make_job(two_walks, tmp_path / "s"), detector=BlueDetector())
    loaded = load_crops([open_shard(tmp_path / "s")])
    for tracklet, crops in enumerate(loaded.crops_of_tracklet):
        first, last = loaded.tracklet_pts[tracklet]
        parts = np.minimum((loaded.pts_s[crops] - first) / (last - first) * 4, 3.999).astype(int)
        assert set(parts.tolist()) == {0, 1, 2, 3}


def test_the_tar_is_an_ordinary_one_and_offsets_point_into_it(two_walks: Path, tmp_path: Path) -> None:
    ingest_recording(make_job(two_walks, tmp_path / "s"), detector=BlueDetector())
    shard = open_shard(tmp_path / "s")
    rows = shard.crops().to_pylist()
    with tarfile.open(shard.path / CROPS) as tar:
        members = tar.getmembers()
        assert len(members) == len(rows)
        for member, row in zip(members, rows, strict=True):
            stored = tar.extractfile(member)
            assert stored is not None
            assert stored.read() == shard.read_jpeg(row["offset"], row["length"])


def test_the_same_input_gives_the_same_bytes(two_walks: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "other.mp4"
    copy.parent.mkdir()
    copy.write_bytes(two_walks.read_bytes())
    one, two = make_job(two_walks, tmp_path / "1"), make_job(copy, tmp_path / "2")
    ingest_recording(one, detector=BlueDetector())
    ingest_recording(two, detector=BlueDetector())
    assert one.shard_id == two.shard_id
    for name in (CROPS, MANIFEST, TRACKLETS):
        assert sha256_file(tmp_path / "1" / name) == sha256_file(tmp_path / "2" / name)


def test_what_changes_crops_changes_the_shard_id(walk: Path, tmp_path: Path) -> None:
    def shard_id(**changes: object) -> str:
        return make_job(walk, tmp_path / "s", **changes).shard_id

    def camera(**fields: object) -> Camera:
        return Camera.model_validate({"id": "cam1", "videos": ["x"], **fields})

    changed = [
        shard_id(),
        shard_id(detector_fingerprint="other"),
        shard_id(detector=Detector.model_validate({"fps": 5})),
        shard_id(detector=Detector.model_validate({"min_score": 0.5})),
        shard_id(detector=Detector.model_validate({"min_height_px": 50})),
        shard_id(camera=camera(mask=[[[0, 0], [1, 0], [1, 1]]])),
        shard_id(camera=camera(time={"from": "filename", "pattern": "%Y%m%d"})),
        shard_id(start=datetime(2026, 1, 1, tzinfo=UTC)),
        shard_id(offset_s=1.0),
        shard_id(erasures=(Erasure("x", 0, 1, None),)),
        shard_id(ground_truth_sha256="abc"),
        shard_id(video_sha256="0" * 64),
    ]
    assert len(set(changed)) == len(changed)
    # Neither the place of the site nor the folder written to changes a crop.
    assert make_job(walk, tmp_path / "other", site_folder=tmp_path, generation=7).shard_id == changed[0]


def test_a_mask_hides_people_before_anything_is_stored(two_walks: Path, tmp_path: Path) -> None:
    lower = [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]
    camera = Camera.model_validate({"id": "cam1", "videos": ["x"], "mask": [lower]})
    seen: list[np.ndarray] = []

    class Watching(BlueDetector):
        def detect(self, frame):  # type: ignore[no-untyped-def]
            seen.append(frame.copy())
            return super().detect(frame)

    summary = ingest_recording(make_job(two_walks, tmp_path / "s", camera=camera), detector=Watching())
    assert summary["counts"]["tracklets"] == 1
    assert all(not frame[HEIGHT // 2 :].any() for frame in seen)
    assert all(row["y2"] <= HEIGHT / 2 for row in open_shard(tmp_path / "s").crops().to_pylist())


def test_who_stands_in_an_ignored_zone_is_not_looked_at(two_walks: Path, tmp_path: Path) -> None:
    lower = [[0, 0.6], [1, 0.6], [1, 1], [0, 1]]
    camera = Camera.model_validate({"id": "cam1", "videos": ["x"], "ignore": [lower]})
    summary = ingest_recording(make_job(two_walks, tmp_path / "s", camera=camera), detector=BlueDetector())
    assert summary["counts"]["tracklets"] == 1
    assert summary["rejected"]["detections"] == {"in an ignored zone": 30}
    assert make_job(two_walks, tmp_path, camera=camera).shard_id != make_job(two_walks, tmp_path).shard_id


def test_crops_that_show_nothing_are_refused_and_counted(tmp_path: Path) -> None:
    """A wall of one colour that "walks", and someone cut off by two borders."""

    def plain(t: float) -> np.ndarray:
        frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        frame[60:140, 20 + round(40 * t) : 60 + round(40 * t)] = (255, 0, 0)
        frame[180:, WIDTH - 40 - round(20 * t) :] = (255, 0, 0)
        return frame

    path = write_video(tmp_path / "v.mp4", 3.0, picture=plain)
    summary = ingest_recording(make_job(path, tmp_path / "s"), detector=BlueDetector())
    assert summary["rejected"]["crops"] == {"blurred": 30, "cut off": 30}
    assert summary["rejected"]["tracklets"] == {"no usable picture": 2}
    assert summary["counts"]["tracklets"] == 0


def test_what_was_erased_stays_away(two_walks: Path, tmp_path: Path) -> None:
    gone = Erasure(sha256_file(two_walks), 0.0, 100.0, (0, 120, WIDTH, HEIGHT))
    summary = ingest_recording(make_job(two_walks, tmp_path / "s", erasures=(gone,)), detector=BlueDetector())
    assert summary["counts"]["tracklets"] == 1
    assert summary["rejected"]["detections"]["erased"] == 30
    span = Erasure(sha256_file(two_walks), 2.0, 3.0, None)
    ingest_recording(make_job(two_walks, tmp_path / "t", erasures=(span,)), detector=BlueDetector())
    assert not any(2.0 <= row["pts_s"] <= 3.0 for row in open_shard(tmp_path / "t").crops().to_pylist())


def test_short_ones_small_ones_and_unsure_ones_are_dropped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 3.0, [Walker(feet=110, start=1.0, end=1.35), Walker(feet=220)])
    summary = ingest_recording(make_job(path, tmp_path / "a"), detector=BlueDetector())
    assert summary["rejected"]["tracklets"] == {"too short": 1}
    tall = Detector.model_validate({"min_height_px": 90})
    summary = ingest_recording(make_job(path, tmp_path / "b", detector=tall), detector=BlueDetector())
    assert summary["counts"]["crops"] == 0
    assert summary["rejected"]["detections"] == {"too small": summary["rejected"]["detections"]["too small"]}
    assert summary["rejected"]["detections"]["too small"] >= 30
    summary = ingest_recording(make_job(path, tmp_path / "c"), detector=BlueDetector(score=0.15))
    assert summary["counts"]["tracklets"] == 0


def test_how_short_is_too_short_follows_the_recording(tmp_path: Path) -> None:
    """A second of a person is four pictures in a recording of four a second, however often the site wants to look."""
    walker = Walker(start=0.5, end=0.7)
    path = write_video(tmp_path / "slow.mp4", 2.0, [walker], clock=lambda index: index / 4)
    assert ingest_recording(make_job(path, tmp_path / "a"), detector=BlueDetector())["counts"]["tracklets"] == 1
    path = write_video(tmp_path / "fast.mp4", 2.0, [walker])
    summary = ingest_recording(make_job(path, tmp_path / "b"), detector=BlueDetector())
    assert summary["rejected"]["tracklets"] == {"too short": 1}


def test_a_tracklet_of_mostly_uncertain_boxes_is_dropped(walk: Path, tmp_path: Path) -> None:
    class Doubtful(BlueDetector):
        seen = 0

        def detect(self, frame: np.ndarray) -> Detections:
            self.seen += 1
            self.score = 0.9 if self.seen <= 3 else 0.15
            return super().detect(frame)

    summary = ingest_recording(make_job(walk, tmp_path / "s"), detector=Doubtful())
    assert summary["counts"]["tracklets"] == 0
    assert summary["rejected"]["tracklets"] == {"too uncertain": 1}


def test_an_empty_scene_is_a_shard_too(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 1.0, [])
    summary = ingest_recording(make_job(path, tmp_path / "s"), detector=BlueDetector())
    assert summary["counts"]["crops"] == 0
    loaded = load_crops([open_shard(tmp_path / "s")])
    assert (len(loaded), loaded.tracklet_ids, loaded.crops_of_tracklet) == (0, [], [])


def test_ground_truth_is_judged(two_walks: Path, tmp_path: Path) -> None:
    walkers = {3: Walker(feet=110), 8: Walker(feet=220, start=2.0, end=5.0)}
    lines = ["frame,person_id,x1,y1,x2,y2,visibility"]
    for frame in range(120):
        for person, walker in walkers.items():
            box = walker.box(frame / 20)
            if box is not None:
                lines.append(f"{frame},{person},{','.join(map(str, box))},1")
    truth = tmp_path / "gt.csv"
    truth.write_text("\n".join(lines) + "\n")
    job = make_job(two_walks, tmp_path / "s", ground_truth=truth, ground_truth_sha256=sha256_file(truth))
    judged = ingest_recording(job, detector=BlueDetector())["ground_truth"]
    assert judged["detection"] == {"tp": 90, "fp": 0, "fn": 0}
    assert judged["sha256"] == sha256_file(truth)
    assert sorted(entry["person_id"] for entry in judged["tracklets"].values()) == [3, 8]
    assert all(entry["purity"] == 1.0 for entry in judged["tracklets"].values())
    loaded = load_crops([open_shard(tmp_path / "s")])
    identities = loaded.identities()
    assert identities is not None
    for crop, tracklet in enumerate(loaded.tracklet):
        assert identities[tracklet] == (3 if loaded.boxes[crop, 3] < 150 else 8)


def test_unknown_time_is_null(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 1.0)
    ingest_recording(make_job(path, tmp_path / "s"), detector=BlueDetector())
    shard = open_shard(tmp_path / "s")
    assert shard.crops()["captured_at"].null_count == shard.crops().num_rows > 0
    assert shard.tracklets()["time_source"].to_pylist() == ["unknown"]
    loaded = load_crops([shard])
    assert (loaded.captured_at == -1).all()
    assert (loaded.tracklet_span == -1).all()


def test_a_recording_that_is_still_written_is_left_for_later(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 1.0)
    job = make_job(path, tmp_path / "s")

    class Meanwhile(BlueDetector):
        def begin(self, preview: Iterable[NDArray[np.uint8]]) -> None:
            with path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(VideoError, match="changed while it was read"):
        ingest_recording(job, detector=Meanwhile())


def test_a_detector_begins_anew_with_every_recording_and_odd_boxes_do_no_harm(walk: Path, tmp_path: Path) -> None:
    class Odd(BlueDetector):
        def detect(self, frame):  # type: ignore[no-untyped-def]
            found = super().detect(frame)
            odd = np.asarray(
                [[np.nan] * 4, [-50, -50, -10, 60], [300, 100, 900, 900], [50, 50, 50, 200], [9, 9, 3, 3]], np.float32
            )
            scores = np.full(len(odd), 0.9, np.float32)
            return type(found)(np.concatenate([found.boxes, odd]), np.concatenate([found.scores, scores]))

    detector = Odd()
    ingest_recording(make_job(walk, tmp_path / "s"), detector=detector)
    assert detector.begun == 1
    loaded = load_crops([open_shard(tmp_path / "s")])
    assert (loaded.boxes >= 0).all()
    assert (loaded.boxes[:, [0, 2]] <= WIDTH).all()
    for i in range(len(loaded)):
        loaded.image(i)


def test_the_preview_is_what_the_detector_is_then_shown(two_walks: Path, tmp_path: Path) -> None:
    class Curious(BlueDetector):
        def __init__(self) -> None:
            super().__init__()
            self.previewed: list[NDArray[np.uint8]] = []
            self.shown: list[NDArray[np.uint8]] = []

        def begin(self, preview: Iterable[NDArray[np.uint8]]) -> None:
            self.previewed = list(preview)

        def detect(self, frame: NDArray[np.uint8]) -> Detections:
            self.shown.append(frame.copy())
            return super().detect(frame)

    detector = Curious()
    camera = Camera.model_validate({"id": "cam1", "videos": ["x"], "mask": [[[0, 0.5], [1, 0.5], [1, 1], [0, 1]]]})
    ingest_recording(make_job(two_walks, tmp_path / "s", camera=camera), detector=detector)
    assert len(detector.previewed) == len(detector.shown) == 60
    assert all(np.array_equal(a, b) for a, b in zip(detector.previewed, detector.shown, strict=True))
    assert not detector.shown[30][HEIGHT // 2 + 1 :].any()


def test_a_long_tracklet_keeps_no_more_crops_than_a_short_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 20.0, [Walker(speed=1.0)])
    summary = ingest_recording(make_job(path, tmp_path / "s"), detector=BlueDetector())
    assert summary["counts"]["tracklets"] == 1
    assert summary["counts"]["crops"] == 8


def test_a_track_that_comes_back_after_its_tracklet_was_closed_is_a_new_tracklet(tmp_path: Path) -> None:
    """The recording says 20 frames a second and gives 2 in its second part: what the tracker, which counts frames,
    takes for a moment is several seconds."""

    def at(index: int) -> float:
        return index / FPS if index < 200 else 10 + (index - 200) / 2

    def picture(t: float) -> NDArray[np.uint8]:
        now = at(round(t * FPS))
        return draw(now, [] if 14 <= now < 18.2 else [Walker(speed=1.0)])

    path = write_video(tmp_path / "v.mp4", 12.0, picture=picture, clock=at)
    summary = ingest_recording(make_job(path, tmp_path / "s"), detector=BlueDetector())
    rows = open_shard(tmp_path / "s").tracklets().to_pylist()
    assert len({row["tracklet_id"] for row in rows}) == len(rows) == summary["counts"]["tracklets"] == 2
    assert rows[0]["end_pts_s"] < 14.1
    assert rows[1]["start_pts_s"] > 18


def seen_at(job: RecordingJob) -> list[tuple[float, float]]:
    """For every crop: when it says it was taken, UTC seconds, and when the block was where the crop shows it."""
    ingest_recording(job, detector=BlueDetector())
    crops = pq.read_table(job.folder / MANIFEST).to_pylist()
    walker = Walker()
    return [(crop["captured_at"].timestamp(), walker.start + (crop["x1"] - walker.x) / walker.speed) for crop in crops]


def uneven(index: int) -> float:
    """Twenty frames a second, then five, then twenty, for three seconds in all."""
    return index / FPS if index < 20 else 1 + (index - 20) / 5 if index < 25 else 2 + (index - 25) / FPS


@pytest.mark.parametrize(
    ("name", "began"),
    [
        ("cam_20251026_015959.mp4", "2025-10-25T23:59:59+00:00"),  # one second before clocks are set back for the
        ("cam_20251026_030000.mp4", "2025-10-26T02:00:00+00:00"),  # first time, and after the second
        ("cam_20260329_015959.mp4", "2026-03-29T00:59:59+00:00"),  # runs across the hour that never came
        ("cam_20260329_030000.mp4", "2026-03-29T01:00:00+00:00"),
    ],
)
def test_wall_clock_times_are_right_to_one_frame(name: str, began: str, tmp_path: Path) -> None:
    """Across changes of the clocks and with a frame rate that varies, against where the block is."""
    frames = {index: uneven(index) for index in range(45)}
    path = write_video(
        tmp_path / name, 45 / FPS, picture=lambda t: draw(frames[round(t * FPS)], [Walker()]), clock=uneven
    )
    camera = Camera.model_validate(
        {"id": "cam1", "videos": [str(path)], "time": {"from": "filename", "pattern": "cam_%Y%m%d_%H%M%S"}}
    )
    seen = seen_at(make_job(path, tmp_path / "shard", camera=camera, timezone="Europe/Berlin"))
    assert len(seen) >= 6
    start = datetime.fromisoformat(began).timestamp()
    for captured, true in seen:
        assert captured - start == pytest.approx(true, abs=1 / FPS + 1e-6)


def test_segments_of_one_stream_are_put_behind_each_other(tmp_path: Path) -> None:
    """Their timestamps run on; `start` is when timestamp zero was, whichever segments are still there."""
    for number, begin in enumerate((100.0, 103.0)):
        path = write_video(
            tmp_path / f"{number}.ts",
            3.0,
            format_="mpegts",
            begin=begin,
            picture=lambda t, number=number: draw(t + 3 * number, [Walker()]),
        )
        camera = Camera.model_validate(
            {
                "id": "cam1",
                "videos": [str(path)],
                "time": {"from": "start", "start": "2026-03-01T08:00:00+01:00", "continuous": True},
            }
        )
        start = datetime(2026, 3, 1, 7, tzinfo=UTC)
        seen = seen_at(make_job(path, tmp_path / f"shard-{number}", camera=camera, start=start))
        for captured, true in seen:
            assert captured - start.timestamp() == pytest.approx(100 + true, abs=1 / FPS)
