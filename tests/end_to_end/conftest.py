"""A small rendered site that goes the whole way through the commands a user types."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY

STAGES = (
    ("ingest", "run"),
    ("calr", "train"),
    ("calr", "export"),
    ("gallery_service", "index"),
    ("calr", "report"),
)


@dataclass(frozen=True)
class Sites:
    """A folder of sites ($CALR_SITES) and the commands run in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"CALR_SITES": str(self.folder), "OMP_NUM_THREADS": "1"}

    def run(self, *command: str, timeout: int = 500) -> subprocess.CompletedProcess[str]:
        """`python -m <command>`, as a user would."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def whole_way(self, site: str) -> dict[tuple[str, str], subprocess.CompletedProcess[str]]:
        """Every stage in a row; each must succeed. How long each took is kept in durations.json, for the first time."""
        done, took = {}, {}
        for package, command in STAGES:
            began = time.monotonic()
            done[package, command] = self.run(package, command, site)
            took[command] = time.monotonic() - began
            assert done[package, command].returncode == 0, done[package, command].stderr
        kept = self.folder / "durations.json"
        if not kept.exists():
            kept.write_text(json.dumps(took))
        return done

    def config(self, site: str) -> dict:
        return yaml.safe_load((self.folder / site / "site.yaml").read_text())

    def configure(self, site: str, config: dict) -> None:
        (self.folder / site / "site.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered site of 2 cameras and 6 walkers, set to the smoke profile."""
    folder = tmp_path_factory.mktemp("rendered") / "small"
    arguments = ["--seed", "900", "--cameras", "2", "--walkers", "6", "--seconds", "30"]
    subprocess.run(
        [sys.executable, str(REPOSITORY / "deploy" / "demo" / "render.py"), "--out", str(folder), *arguments],
        check=True,
        capture_output=True,
    )
    config = yaml.safe_load((folder / "site.yaml").read_text())
    config["name"] = "small"
    config["training"]["profile"] = "cpu-tiny"
    config["training"]["init"] = str(REPOSITORY / "deploy" / "demo" / "weights" / "osnet_x0_25_rendered.safetensors")
    (folder / "site.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def sites(tmp_path: Path, rendered: Path) -> Sites:
    """A fresh $CALR_SITES that holds the small site as `small`, nothing run yet."""
    shutil.copytree(rendered, tmp_path / "sites" / "small")
    return Sites(tmp_path / "sites")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, rendered: Path) -> Sites:
    """The small site after the whole way, undisturbed. Tests read it and leave it as it is."""
    sites = Sites(tmp_path_factory.mktemp("finished"))
    shutil.copytree(rendered, sites.folder / "small")
    sites.whole_way("small")
    return sites


def artefacts(root: Path) -> dict[str, str]:
    """sha256 of everything a site's stages make, but for the SQLite file and what tells the time: logs, a run's record,
    and its checkpoints, which hold the seconds of each epoch."""
    found = {}
    for top in ("shards", "runs", "models", "gallery"):
        for file in sorted((root / top).rglob("*")):
            timed = file.suffix in {".jsonl", ".html"} or file.name == "run.json" or file.parent.name == "checkpoints"
            timed = timed or file.name.startswith("gallery.sqlite")
            if file.is_file() and not timed:
                found[str(file.relative_to(root))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
