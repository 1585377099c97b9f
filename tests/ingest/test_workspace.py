"""The workspace and its lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ingest.site import parse_site
from ingest.workspace import Workspace, WorkspaceBusy

SITE = {"schema": 1, "name": "lobby", "cameras": [{"id": "c", "videos": ["*"]}]}

HOLD = """
import sys, time
from pathlib import Path
from ingest.site import parse_site
from ingest.workspace import Workspace
site = parse_site({"schema": 1, "name": "lobby", "cameras": [{"id": "c", "videos": ["*"]}]}, Path(sys.argv[1]))
with Workspace(site).lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_root_is_the_folder_or_below_the_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALR_SITES", str(tmp_path / "sites"))
    file = tmp_path / "here" / "site.yaml"
    assert Workspace(parse_site(SITE, file, by_path=True)).root == tmp_path / "here"
    assert Workspace(parse_site(SITE, file, by_path=False)).root == tmp_path / "sites" / "lobby"
    assert not (tmp_path / "sites").exists()


def test_one_writer_and_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    workspace = Workspace(parse_site(SITE, tmp_path / "site.yaml"))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "site.yaml")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusy, match=f"pid {holder.pid}: "), workspace.lock():
            pass
    finally:
        holder.kill()
        holder.wait()
    with workspace.lock(), pytest.raises(WorkspaceBusy), workspace.lock():
        pass
    with workspace.lock():
        pass


def test_status(tmp_path: Path) -> None:
    workspace = Workspace(parse_site(SITE, tmp_path / "site.yaml"))
    assert workspace.read_status("ingest") is None
    workspace.write_status("ingest", {"state": "done"})
    assert workspace.read_status("ingest") == {"schema": 1, "state": "done"}
    (workspace.status / "ingest.json").write_text("{")
    assert workspace.read_status("ingest") is None
    with pytest.raises(ValueError, match="stage name"):
        workspace.write_status("../x", {})
