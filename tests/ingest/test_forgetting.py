"""What is forgotten is gone, stays gone, and nothing else goes with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest import forgetting
from ingest.content_hash import ContentHashes
from ingest.derived import derived_left
from ingest.erasure_selection import Selection, Span, expired, make_selection, pieces
from ingest.erasures import Erasure, add_erasures, load_erasures
from ingest.forgetting import forget
from ingest.recording import ingest_recording
from ingest.shards import list_shards, load_crops, newest_shards, remove_leftovers
from ingest.site import Detector, camera_videos, load_site
from ingest.workspace import Workspace
from models.atomic import publish_folder
from tests.ingest.conftest import BlueDetector, Walker, make_job, write_video
from tests.ingest.test_pipeline import ENVIRONMENT, content_of, run, write_site

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cam1 saw somebody from 8:00:00.5 to 8:00:03, somebody else from 8:00:04 on, and one more a minute later; nobody
    knows when cam2 did."""
    folder = tmp_path_factory.mktemp("forget")
    walkers = [Walker(feet=110, start=0.5, end=3.0), Walker(feet=220, start=4.0, x=150)]
    write_video(folder / "cam1/a.mp4", 6.0, walkers, creation_time=START.isoformat())
    later = (START + timedelta(minutes=1)).isoformat()
    write_video(folder / "cam1/b.mp4", 3.0, [Walker(start=0.5)], creation_time=later)
    write_video(folder / "cam2.mp4", 3.0, [Walker(start=0.5, feet=120)])
    write_site(folder, [{"id": "cam1", "videos": ["cam1/*.mp4"]}, {"id": "cam2", "videos": ["cam2.mp4"]}])
    code, _, err = run(folder)
    assert code == 0, err
    return folder


@pytest.fixture
def site(ingested: Path, tmp_path: Path) -> Path:
    shutil.copytree(ingested, tmp_path / "site")
    return tmp_path / "site"


def before(moment: datetime, camera: str = "cam1") -> Selection:
    return Selection(spans={camera: Span(until=moment)})


def seen(site: Path) -> dict[str, list[float]]:
    """Seconds since 8:00 at which each camera's tracklets begin; -1 for unknown."""
    found: dict[str, list[float]] = {}
    for shard in list_shards(Workspace(load_site(str(site)))):
        for row in shard.tracklets().to_pylist():
            begin = row["first_seen"]
            found.setdefault(row["camera_id"], []).append(-1.0 if begin is None else (begin - START).total_seconds())
    return {camera: sorted(times) for camera, times in found.items()}


def test_a_part_of_a_recording(site: Path) -> None:
    shown = seen(site)
    early = [t for t in shown["cam1"] if t < 3.5]
    assert early and len(early) < len(shown["cam1"])
    config = load_site(str(site))
    plan = forget(config, before(START + timedelta(seconds=3.5)), really=False)
    assert seen(site) == shown and not Workspace(config).erasures.exists()
    done = forget(config, before(START + timedelta(seconds=3.5)))
    assert done == plan
    assert (len(done.tracklets), done.untimed) == (len(early), [])
    assert seen(site) == {**shown, "cam1": [t for t in shown["cam1"] if t >= 3.5]}
    crops = load_crops(list_shards(Workspace(config)))
    assert not set(done.tracklets) & set(crops.tracklet_ids)
    for i in range(len(crops)):
        assert crops.image(i).size
    kept = content_of(site)
    code, _, err = run(site)
    assert code == 0 and "nothing new" in err, err  # ingest agrees that this is what there is to know
    assert content_of(site) == kept
    assert forget(config, before(START + timedelta(seconds=3.5))).tracklets == []
    assert content_of(site) == kept
    assert len(load_erasures(Workspace(config).erasures)) == 1


def test_what_is_forgotten_does_not_come_back_with_other_settings(site: Path) -> None:
    forget(load_site(str(site)), before(START + timedelta(seconds=30)))
    content = yaml.safe_load((site / "site.yaml").read_text())
    content["detector"]["min_height_px"] = 41
    (site / "site.yaml").write_text(yaml.safe_dump(content))
    code, _, err = run(site)
    assert code == 0, err
    assert all(t > 30 for t in seen(site)["cam1"])
    assert seen(site)["cam1"]


def test_a_crash_in_between_is_made_good_by_the_same_command(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_site(str(site))
    moment = before(START + timedelta(seconds=30))

    def crash(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(forgetting, "publish_folder", crash)
        with pytest.raises(OSError, match="no space"):
            forget(config, moment)
    assert load_erasures(Workspace(config).erasures)
    assert [t for t in seen(site)["cam1"] if t < 30]
    assert forget(config, moment).tracklets
    assert all(t > 30 for t in seen(site)["cam1"])
    assert not list((site / "shards").glob("*/.*"))


def test_expiry_is_per_camera(site: Path) -> None:
    content = yaml.safe_load((site / "site.yaml").read_text())
    content["retention_days"] = 30
    content["cameras"][1]["retention_days"] = 7
    (site / "site.yaml").write_text(yaml.safe_dump(content))
    now = datetime(2026, 4, 15, tzinfo=UTC)
    config = load_site(str(site))
    assert expired(config, now).spans == {
        "cam1": Span(until=now - timedelta(days=30)),
        "cam2": Span(until=now - timedelta(days=7)),
    }
    found = forget(config, expired(config, now))
    assert len(found.tracklets) >= 3
    assert found.untimed == ["cam2: cam2.mp4"]
    assert list(seen(site)) == ["cam2"]


def rows(site: Path) -> list[dict[str, Any]]:
    shards = list_shards(Workspace(load_site(str(site))))
    return [row for shard in shards for row in shard.tracklets().to_pylist()]


def ingest(site: Path, camera: str, **settings: int) -> None:
    """Ingest a camera's one recording as the command does, but for a detector that is quick and sure."""
    config = load_site(str(site))
    workspace = Workspace(config)
    (recording,) = camera_videos(config.camera(camera))
    job = make_job(recording.path, Path(), camera=config.camera(camera), detector=Detector.model_validate(settings))
    mine = [erasure for erasure in load_erasures(workspace.erasures) if erasure.video_sha256 == job.video_sha256]
    before = [shard.generation for shard in list_shards(workspace, camera)]
    job = replace(job, erasures=tuple(mine), generation=max(before, default=0) + 1)
    job = replace(job, folder=workspace.shards / camera / f".tmp-{job.shard_id}")
    ingest_recording(job, detector=BlueDetector())
    if not job.folder.with_name(job.shard_id).exists():
        publish_folder(job.folder, job.folder.with_name(job.shard_id))
    remove_leftovers(workspace)


@pytest.fixture(scope="module")
def ingested_crossing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people walk at the same time, one well above the other, and a third comes later where the first was."""
    folder = tmp_path_factory.mktemp("crossing")
    walkers = [
        Walker(feet=110, start=0.5, end=4.5),
        Walker(feet=220, start=0.5, end=4.5),
        Walker(feet=110, start=7.0, x=60),
    ]
    write_video(folder / "cam1/a.mp4", 9.0, walkers, creation_time=START.isoformat())
    write_site(folder, [{"id": "cam1", "videos": ["cam1/*.mp4"]}, {"id": "twin", "videos": ["cam1/*.mp4"]}])
    ingest(folder, "cam1")
    return folder


@pytest.fixture
def crossing(ingested_crossing: Path, tmp_path: Path) -> Path:
    shutil.copytree(ingested_crossing, tmp_path / "site")
    return tmp_path / "site"


def places(site: Path) -> list[tuple[str, str]]:
    """Where and when each tracklet walked."""
    return sorted(
        ("upper" if row["entry_box"][3] < 160 else "lower", "late" if row["start_pts_s"] > 6 else "early")
        for row in rows(site)
    )


EARLY_UPPER, EARLY_LOWER, LATE = ("upper", "early"), ("lower", "early"), ("upper", "late")


def test_one_person_goes_and_who_was_there_too_stays_also_when_ingested_anew(crossing: Path) -> None:
    assert places(crossing) == [EARLY_LOWER, EARLY_UPPER, LATE]
    erased = next(row for row in rows(crossing) if row["entry_box"][3] < 160 and row["start_pts_s"] < 6)
    found = forget(load_site(str(crossing)), Selection(tracklets=frozenset({erased["tracklet_id"]})))
    assert found.tracklets == [erased["tracklet_id"]] and found.crops >= 4
    assert places(crossing) == [EARLY_LOWER, LATE]
    kept = content_of(crossing)
    ingest(crossing, "cam1")
    assert content_of(crossing).keys() == kept.keys()  # ingest agrees that this is what there is to know
    for height in (41, 30):
        ingest(crossing, "cam1", min_height_px=height, fps=height % 7 + 5)
        assert places(crossing) == [EARLY_LOWER, LATE]
        assert not content_of(crossing).keys() & kept.keys()
    again = forget(load_site(str(crossing)), Selection(tracklets=frozenset({"cam1/0123456789ab/000001"})))
    assert (again.tracklets, again.missing) == ([], ["cam1/0123456789ab/000001"])


def test_a_time_goes_with_all_of_everybody_who_was_seen_in_it(crossing: Path) -> None:
    """Both who walked at first were there before the erased second and after it, and do not come back in parts."""
    moment = Span(START + timedelta(seconds=2.0), START + timedelta(seconds=2.5))
    assert len(forget(load_site(str(crossing)), Selection(spans={"cam1": moment})).tracklets) == 2
    assert places(crossing) == [LATE]
    ingest(crossing, "cam1", min_height_px=41)
    assert places(crossing) == [LATE]


def test_all_that_a_camera_saw_at_unknown_times_too(site: Path) -> None:
    found = forget(load_site(str(site)), Selection(spans={"cam2": Span()}))
    assert found.tracklets and not found.untimed
    assert list(seen(site)) == ["cam1"]
    ingest(site, "cam2")
    assert list(seen(site)) == ["cam1"]


def test_a_recording_of_two_cameras_is_erased_for_both(crossing: Path) -> None:
    """They see the same pictures, and an erasure is of the recording."""
    ingest(crossing, "twin")
    mine = next(row for row in rows(crossing) if row["camera_id"] == "cam1")
    found = forget(load_site(str(crossing)), Selection(tracklets=frozenset({mine["tracklet_id"]})))
    assert sorted(name.partition("/")[0] for name in found.tracklets) == ["cam1", "twin"]
    assert len(rows(crossing)) == 4


def test_long_tracklets_are_erased_with_room_for_detours(crossing: Path) -> None:
    shard, *_ = list_shards(Workspace(load_site(str(crossing))))
    corners = ({"x1": 10.0, "y1": 0.0, "x2": 20.0, "y2": 30.0}, {"x1": 50.0, "y1": 5.0, "x2": 60.0, "y2": 35.0})
    way = [{"t": 1.0, **corners[0]}, {"t": 1.5, **corners[1]}, {"t": 3.0, **corners[0]}]
    close, far = pieces(shard, {"path": way})
    assert (close.start_pts_s, close.end_pts_s, close.box) == (0.5, 1.5, (10, 0, 60, 35))
    assert (far.start_pts_s, far.end_pts_s, far.box) == (1.5, 3.5, (0, -10, 70, 45))
    (only,) = pieces(shard, {"path": way[:1]})
    assert (only.start_pts_s, only.end_pts_s, only.box) == (0.5, 1.5, (10, 0, 20, 30))


def test_a_picture_of_somebody_else_that_mostly_shows_who_is_erased_goes_too(site: Path) -> None:
    workspace = Workspace(load_site(str(site)))
    shard = next(shard for shard in list_shards(workspace) if shard.camera_id == "cam1")
    first, *_ = shard.crops().to_pylist()
    box = tuple(first[name] for name in ("x1", "y1", "x2", "y2"))
    add_erasures(workspace.erasures, [Erasure(shard.video_sha256, first["pts_s"], first["pts_s"], box)])
    found = forget(load_site(str(site)), Selection(spans={"cam1": Span(until=START - timedelta(days=1))}))
    assert (found.tracklets, found.crops) == ([], 1)
    crops = load_crops(list_shards(workspace))
    assert first["crop_id"] not in crops.crop_id
    assert first["tracklet_id"] in crops.tracklet_ids


def test_recordings_that_are_still_to_come_are_named(site: Path) -> None:
    hashes = ContentHashes(Workspace(load_site(str(site))))
    for known in ("a", "b"):  # kept by path, and this is a copy
        hashes.sha256(site / f"cam1/{known}.mp4")
    hashes.save()
    write_video(site / "cam1/c.mp4", 1.0, creation_time=START.isoformat())
    found = forget(load_site(str(site)), before(START + timedelta(hours=1)), really=False)
    assert found.waiting == ["cam1: c.mp4"]


def test_what_was_made_from_the_crops_goes_with_them(site: Path) -> None:
    workspace = Workspace(load_site(str(site)))
    # The later of cam1's recordings is not touched.
    shards = {shard.camera_id: shard for shard in list_shards(workspace) if shard.summary["video_name"] != "b.mp4"}
    other = pseudo_run(workspace, "r-other", [f"cam2/{shards['cam2'].shard_id}"])
    touched = pseudo_run(workspace, "r-touched", [f"{s.camera_id}/{s.shard_id}" for s in shards.values()])
    silent = pseudo_run(workspace, "r-silent", None)
    unfinished = pseudo_run(workspace, "r-unfinished", [f"cam1/{shards['cam1'].shard_id}"])
    (unfinished / "run.json").unlink()
    for name in ("report.html", "contact_sheet.png", "ingest.html"):
        (site / name).write_text("pictures")
    began = time.time()
    forget(load_site(str(site)), before(START + timedelta(seconds=30)))
    assert not any((site / name).exists() for name in ("report.html", "contact_sheet.png", "ingest.html"))
    assert not unfinished.exists()
    for run_ in (touched, silent):
        left = sorted(path.name for path in run_.iterdir())
        assert left == [
            n for n in ("final.safetensors", "report.html", "run.json", "shards.json") if (run_ / n).exists()
        ]
        page = (run_ / "report.html").read_text()
        assert "image/jpeg" not in page and page.count("<img") == 3 and "svg+xml;base64,Q1VSVkVT" in page
    assert sorted(path.name for path in other.iterdir()) == RUN_FILES
    gone = {shards["cam1"].video_sha256}
    assert derived_left(workspace, gone, began) == []
    assert derived_left(workspace, {shards["cam2"].video_sha256}, began) != []
    # A model trained afterwards is another run, and may keep what it has.
    pseudo_run(workspace, "r-later", [f"cam1/{s.shard_id}" for s in list_shards(workspace) if s.camera_id == "cam1"])
    assert derived_left(workspace, gone, began) == []


RUN_FILES = ["checkpoints", "crops.cache", "final.safetensors", "labels", "report.html", "run.json", "shards.json"]


def pseudo_run(workspace: Workspace, name: str, shards: list[str] | None) -> Path:
    folder = workspace.runs / name
    for inner in ("checkpoints", "labels"):
        (folder / inner).mkdir(parents=True)
        (folder / inner / "0001.safetensors").write_bytes(b"x")
    for file in ("crops.cache", "final.safetensors", "run.json"):
        (folder / file).write_bytes(b"x")
    jpeg, curves = (
        f'<img src="data:image/{kind};base64,{text}">' for kind, text in (("jpeg", "AAAA"), ("svg+xml", "Q1VSVkVT"))
    )
    (folder / "report.html").write_text(jpeg + curves + jpeg)
    if shards is not None:
        (folder / "shards.json").write_text(json.dumps({"schema": 1, "shards": shards}))
    return folder


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "choose what to erase"),
        ({"tracklets": ["cam1/v/1"], "camera": "cam1"}, "choose what to erase"),
        ({"tracklets": ["cam1"]}, "is not a tracklet's id"),
        ({"tracklets": ["cam1/v/1"], "since": "2026-03-01T08:00"}, "leave the time out"),
        ({"camera": "cam1"}, "say since or until"),
        ({"camera": "cam1", "until": "2026-03-01T08:00", "everything": True}, "say since or until"),
        ({"camera": "cam1", "until": "2026-03-01"}, "not a moment"),
        ({"camera": "cam1", "until": "yesterday"}, "not a moment"),
        ({"camera": "cam1", "since": "2026-03-02T08:00", "until": "2026-03-01T08:00"}, "swap"),
        ({"camera": "cam9", "everything": True}, "no camera 'cam9'"),
    ],
)
def test_what_cannot_be_meant_is_refused(site: Path, given: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_selection(load_site(str(site)), **given)  # type: ignore[arg-type]


def test_a_camera_that_was_taken_out_expires_and_can_be_erased(site: Path) -> None:
    content = yaml.safe_load((site / "site.yaml").read_text())
    content["cameras"] = content["cameras"][1:]
    now = datetime(2026, 4, 15, tzinfo=UTC)
    (site / "site.yaml").write_text(yaml.safe_dump(content))
    config = load_site(str(site))
    assert expired(config, now).spans == {}, "nobody has said for how long"
    everything = make_selection(config, camera="cam1", everything=True)
    assert everything.spans == {"cam1": Span()}
    (site / "site.yaml").write_text(yaml.safe_dump({**content, "retention_days": 30}))
    config = load_site(str(site))
    assert expired(config, now).spans.keys() == {"cam1", "cam2"}
    found = forget(config, expired(config, now))
    assert {name.partition("/")[0] for name in found.tracklets} == {"cam1"}
    assert [shard.crops().num_rows for shard in newest_shards(Workspace(config), "cam1")] == [0, 0]
    assert forget(config, everything).tracklets == []


def test_times_without_an_offset_are_the_sites(tmp_path: Path) -> None:
    write_site(tmp_path, [{"id": "cam1", "videos": []}], timezone="Europe/Berlin")
    site = load_site(str(tmp_path))
    span = make_selection(site, camera="cam1", since="2026-03-01T08:00", until="2026-03-01T08:00Z").spans["cam1"]
    assert span == Span(datetime(2026, 3, 1, 7, tzinfo=UTC), datetime(2026, 3, 1, 8, tzinfo=UTC))
    # Half past two comes twice in that night: both of them.
    span = make_selection(site, camera="cam1", since="2026-10-25T02:30", until="2026-10-25T02:30").spans["cam1"]
    assert span == Span(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC))


def test_a_run_finishes_a_forgetting_also_where_the_recording_is_gone(site: Path) -> None:
    workspace = Workspace(load_site(str(site)))
    gone = next(shard for shard in list_shards(workspace) if shard.camera_id == "cam2")
    add_erasures(workspace.erasures, [Erasure(gone.video_sha256, 0.0, 100.0, None)])
    (site / "cam2.mp4").unlink()
    run(site)
    assert list(seen(site)) == ["cam1"]


def test_a_run_keeps_the_retention(site: Path) -> None:
    old = len(seen(site)["cam1"])
    content = yaml.safe_load((site / "site.yaml").read_text())
    content["cameras"][0]["retention_days"] = 1
    (site / "site.yaml").write_text(yaml.safe_dump(content))
    code, _, err = run(site)
    assert code == 0 and f"older than 'retention_days', forgotten: {old} tracklets" in err, err
    assert list(seen(site)) == ["cam2"]
    assert json.loads((site / "status/ingest.json").read_text())["counts"]["tracklets"] == len(seen(site)["cam2"])
    code, _, err = run(site)
    assert code == 0 and "forgotten" not in err, err


def test_the_command(site: Path) -> None:
    def command(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ingest", "forget", str(site), *options],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
        )

    before = content_of(site)
    late = ("--camera", "cam1", "--before", "2026-03-01T10:00:00+01:00")
    for options, status, says in (
        ((), 1, "choose what to erase"),
        (("--camera", "cam1"), 1, "say since or until"),
        (("--camera", "cam1", "--all", "--expired"), 1, "stands alone"),
        ((*late, "--yes", "--dry-run"), 0, "would be forgotten"),
        (("--camera", "cam9", "--before", "2026-03-01T10:00:00Z"), 1, "no camera 'cam9'"),
        (("--camera", "cam1", "--before", "2026-03-01"), 1, "with an offset"),
        (("--expired",), 1, "retention_days"),
        (late, 0, "would be forgotten"),
    ):
        done = command(*options)
        assert done.returncode == status, (options, done.stderr)
        assert says in " ".join(done.stderr.replace("│", " ").split()), done.stderr
        assert content_of(site) == before
    done = command(*late, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["tracklets"]) >= 3
    assert "gallery_service index" in done.stderr
    assert list(seen(site)) == ["cam2"]
