"""What is forgotten is gone, stays gone, and nothing else goes with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from ingest import forgetting
from ingest.erasures import load_erasures
from ingest.forgetting import expiry, forget
from ingest.shards import list_shards, load_crops
from ingest.site import load_site
from ingest.workspace import Workspace
from tests.ingest.conftest import Walker, write_video
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


def seen(site: Path) -> dict[str, list[float]]:
    """Seconds since 8:00 at which each camera's tracklets begin; -1 for unknown."""
    found: dict[str, list[float]] = {}
    for shard in list_shards(Workspace(load_site(str(site)))):
        for row in shard.tracklets().to_pylist():
            begin = row["first_seen"]
            found.setdefault(row["camera_id"], []).append(-1.0 if begin is None else (begin - START).total_seconds())
    return {camera: sorted(times) for camera, times in found.items()}


def test_a_part_of_a_recording(site: Path) -> None:
    before = seen(site)
    early = [t for t in before["cam1"] if t < 3.5]
    assert early and len(early) < len(before["cam1"])
    config = load_site(str(site))
    plan = forget(config, {"cam1": START + timedelta(seconds=3.5)}, really=False)
    assert seen(site) == before and not Workspace(config).erasures.exists()
    done = forget(config, {"cam1": START + timedelta(seconds=3.5)})
    assert done == plan
    assert (len(done.tracklets), done.untimed) == (len(early), [])
    assert seen(site) == {**before, "cam1": [t for t in before["cam1"] if t >= 3.5]}
    crops = load_crops(list_shards(Workspace(config)))
    assert not set(done.tracklets) & set(crops.tracklet_ids)
    for i in range(len(crops)):
        assert crops.image(i).size
    kept = content_of(site)
    code, _, err = run(site)
    assert code == 0 and "nothing new" in err, err  # ingest agrees that this is what there is to know
    assert content_of(site) == kept
    assert forget(config, {"cam1": START + timedelta(seconds=3.5)}).tracklets == []
    assert content_of(site) == kept
    assert len(load_erasures(Workspace(config).erasures)) == 1


def test_what_is_forgotten_does_not_come_back_with_other_settings(site: Path) -> None:
    forget(load_site(str(site)), {"cam1": START + timedelta(seconds=30)})
    content = yaml.safe_load((site / "site.yaml").read_text())
    content["detector"]["min_height_px"] = 41
    (site / "site.yaml").write_text(yaml.safe_dump(content))
    code, _, err = run(site)
    assert code == 0, err
    assert all(t > 30 for t in seen(site)["cam1"])
    assert seen(site)["cam1"]


def test_a_crash_in_between_is_made_good_by_the_same_command(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_site(str(site))
    moment = {"cam1": START + timedelta(seconds=30)}

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
    assert expiry(config, now) == {"cam1": now - timedelta(days=30), "cam2": now - timedelta(days=7)}
    found = forget(config, expiry(config, now))
    assert len(found.tracklets) >= 3
    assert found.untimed == ["cam2: cam2.mp4"]
    assert list(seen(site)) == ["cam2"]


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
        ((), 2, "either --camera and --before, or --expired"),
        (("--camera", "cam1"), 2, "either"),
        (("--camera", "cam9", "--before", "2026-03-01T10:00:00Z"), 1, "no camera 'cam9'"),
        (("--camera", "cam1", "--before", "2026-03-01"), 1, "with its offset"),
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
