"""`python -m ingest status`: what it says is what lies there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.set_aside import Failure, SetAside
from ingest.site import load_site
from ingest.site_status import CELLS, site_status, write_page
from ingest.workspace import Workspace
from tests.ingest.conftest import Walker, write_video
from tests.ingest.test_pipeline import ENVIRONMENT, content_of, run, write_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cam1: two recordings that follow each other and one a minute later; cam2: one nobody knows the time of; cam3: one
    that failed, one that was not ingested yet."""
    folder = tmp_path_factory.mktemp("status")
    for name, second in (("a", 0), ("b", 3), ("c", 60)):
        write_video(
            folder / "cam1" / f"{name}.mp4",
            3.0,
            [Walker(start=0.5, feet=200 + 10 * second // 30)],
            creation_time=f"2026-03-01T08:{second // 60:02}:{second % 60:02}Z",
        )
    write_video(folder / "cam2.mp4", 3.0, [Walker(start=0.5, feet=110)])
    write_site(
        folder,
        [
            {"id": "cam1", "videos": ["cam1/*.mp4"]},
            {"id": "cam2", "videos": ["cam2.mp4"]},
            {"id": "cam3", "videos": ["late/*"]},
        ],
        timezone="Europe/Berlin",
    )
    (folder / "late").mkdir()
    run(folder)
    (folder / "late/broken.mp4").write_bytes(b"x" * 100)
    write_video(folder / "late/new.mp4", 1.0, [])
    failure = Failure("cam3", str(folder / "late/broken.mp4"), "it <b>broke</b>", 3)
    SetAside(Workspace(load_site(str(folder)))).failed("shard", failure)
    return folder


def test_what_lies_there(site: Path) -> None:
    before = content_of(site)
    found = site_status(load_site(str(site)))
    first, second, third = found.cameras
    assert (first.recordings, first.untimed, first.queue, len(first.gaps)) == (3, 0, 0, 1)
    assert first.hours == pytest.approx(9 / 3600, rel=0.05)
    assert first.tracklets >= 3 and first.crops >= 12
    ((begin, end),) = first.gaps
    assert (begin.isoformat(), end.isoformat()) == ("2026-03-01T08:00:06+00:00", "2026-03-01T08:01:00+00:00")
    assert len(found.timeline(first)) == CELLS
    assert (second.recordings, second.untimed, second.coverage) == (1, 1, [])
    assert (third.recordings, third.queue, [failure.tries for failure in third.failures]) == (0, 1, [3])
    assert content_of(site) == before


def test_the_command(site: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "status", str(site), "--json", "--page"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == site_status(load_site(str(site))).as_json()
    assert "cam3" in done.stderr and "it <b>broke</b>" in done.stderr
    assert "2026-03-01 09:00:00 to 2026-03-01 09:01:03, Europe/Berlin" in done.stderr
    page = (site / "ingest.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 4
    assert "<b>broke</b>" not in page and "&lt;b&gt;broke" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched


def test_a_site_without_anything(tmp_path: Path) -> None:
    write_site(tmp_path, [{"id": "cam1", "videos": ["*.mp4"]}])
    config = load_site(str(tmp_path))
    found = site_status(config)
    assert found.whole is None
    assert found.cameras[0].as_json()["recordings"] == 0
    assert "Nobody knows" in write_page(config, found).read_text(encoding="utf-8")
