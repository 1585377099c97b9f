"""A disk that fills up, for real: a file system of a few kilobytes, mounted where only this test sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.ingest.conftest import Walker, write_video
from tests.ingest.test_pipeline import ENVIRONMENT

# What happens inside the mount's own namespace: too little room, then enough; and the same where there is plenty.
WITHIN = """
import json, subprocess, sys
from pathlib import Path
from tests.ingest.test_pipeline import content_of, run, unfinished, write_site

folder, plenty, recordings = map(Path, sys.argv[1:4])
cameras = [{"id": f"cam{n}", "videos": [str(recordings / f"cam{n}.mp4")]} for n in (1, 2)]
found = []
for kilobytes in sys.argv[4:]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)], check=True)
    write_site(folder, cameras)
    code, _, said = run(folder, "--workers", "1")
    state = {"code": code, "said": said, "files": len(content_of(folder)), "left": len(unfinished(folder)),
             "set_aside": (folder / "set_aside.json").exists()}
    subprocess.run(["mount", "-o", "remount,size=10m", str(folder)], check=True)
    again, _, _ = run(folder, "--workers", "1")
    found.append({**state, "again": again, "content": content_of(folder)})
    subprocess.run(["umount", str(folder)], check=True)
write_site(plenty, cameras)
run(plenty)
print(json.dumps({"plenty": content_of(plenty), "found": found}))
"""
WITHIN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def namespaces_allowed() -> bool:
    """Whether a user may mount something here."""
    try:
        return subprocess.run([*WITHIN_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not namespaces_allowed(), reason="mounting needs user namespaces, which this machine forbids")
def test_it_stops_clean_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    recordings, folder = tmp_path / "recordings", tmp_path / "site"
    folder.mkdir()
    for number in (1, 2):
        walkers = [Walker(feet=110, start=0.8, speed=45), Walker(feet=220, start=1.2, speed=50 - 5 * number)]
        write_video(recordings / f"cam{number}.mp4", 4.0, walkers, creation_time="2026-03-01T08:00:00Z")
    # About the size of a status; of the first recording's crops; of more than one shard.
    sizes = ["16", "60", "100"]
    done = subprocess.run(
        [*WITHIN_NAMESPACE, sys.executable, "-c", WITHIN, *map(str, (folder, tmp_path / "plenty", recordings)), *sizes],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert len(outcome["plenty"]) == 8
    for found in outcome["found"]:
        assert found["code"] == 1
        assert "no space left on its disk" in found["said"]
        assert found["said"].count("error:") == 1
        assert found["left"] == 0
        assert not found["set_aside"]
        assert found["again"] == 0
        assert found["content"] == outcome["plenty"]
    assert [found["files"] for found in outcome["found"]] == [0, 0, 4]
