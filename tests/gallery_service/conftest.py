"""The invented site, built once and copied, and a service on a real socket."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import create_engine
from sqlalchemy.exc import DatabaseError

from gallery_service.databases.row_checksum import checked_rows
from gallery_service.indexing.build import build_gallery
from ingest.content_hash import ContentHashes
from ingest.site import SiteConfig, load_site
from ingest.workspace import Workspace
from tests.gallery_service import synthetic
from tests.gallery_service.lived_in import live_in
from tests.gallery_service.postgres import PostgresServer

os.environ.setdefault("OMP_NUM_THREADS", "1")
# What was indexed is found by whoever asks next, however slow the machine is that loads it.
os.environ.setdefault("CALR_SERVICE_RELOAD_WAIT_S", "60")
os.environ.setdefault("CALR_SERVICE_RELOAD_PAUSE", "0")
# How long an example takes says more about the machine than about the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def no_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests do not meet the users of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALR_SITES", str(tmp_path_factory.mktemp("sites")))
        yield


@pytest.fixture(scope="session", autouse=True)
def every_row_fits_its_checksum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever the tests did, in this process or in services and commands of their own: no statement has written a row
    of any file that they left without its checksum."""
    yield
    wrong = []
    for path in sorted(tmp_path_factory.getbasetemp().rglob("*.sqlite")):
        engine = create_engine(f"sqlite:///{path}")
        with suppress(DatabaseError):  # made one that cannot be read
            wrong += [f"{path}: {name}" for name, whole in checked_rows(engine) if not whole]
        engine.dispose()
    assert wrong == []


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def server_database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """CALR_DATABASE names a database of the server, which is empty; its address."""
    url = postgres.new_database()
    monkeypatch.setenv("CALR_DATABASE", url)
    return url


@pytest.fixture(params=["file", "server"])
def either_database(request: pytest.FixtureRequest) -> str:
    """The test runs twice: with rows in SQLite files, and in PostgreSQL."""
    if request.param == "server":
        request.getfixturevalue("server_database")
    return str(request.param)


@pytest.fixture(scope="session")
def built_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras, five people, a model; not indexed. Never written to: use `site` or `indexed_site`."""
    folder = tmp_path_factory.mktemp("built") / "toy"
    synthetic.build_site(folder)
    return folder


@pytest.fixture(scope="session")
def built_gallery(built_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, indexed."""
    site = copy_site(built_site, tmp_path_factory.mktemp("indexed"))
    build_gallery(site, threads=1, quiet=True)
    return site.folder


@pytest.fixture
def site(built_site: Path, tmp_path: Path) -> SiteConfig:
    """A copy that a test may change, not indexed."""
    return copy_site(built_site, tmp_path)


@pytest.fixture
def indexed_site(built_gallery: Path, tmp_path: Path) -> SiteConfig:
    """A copy that a test may change, indexed."""
    return copy_site(built_gallery, tmp_path)


@pytest.fixture
def lived_in_site(indexed_site: SiteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteConfig:
    """The same after weeks of use, with users of its own: every table has rows."""
    folder = tmp_path / "sites"
    folder.mkdir()
    monkeypatch.setenv("CALR_SITES", str(folder))
    live_in(indexed_site)
    return indexed_site


def copy_site(source: Path, into: Path) -> SiteConfig:
    """Copy a site's folder; hashes of the recordings are kept by path, so they are taken again."""
    target = into / source.name
    shutil.copytree(source, target)
    site = load_site(str(target))
    hashes = ContentHashes(Workspace(site))
    for path in sorted(target.glob("recordings/*/*.mp4")):
        hashes.sha256(path)
    hashes.save()
    if "CALR_DATABASE" in os.environ and (target / "gallery" / "gallery.sqlite").exists():
        # The rows are made again in the server, from the segments.
        for path in target.glob("gallery/gallery.sqlite*"):
            path.unlink()
        build_gallery(site, threads=1, quiet=True)
    return site


@dataclass(frozen=True)
class RunningService:
    """A service process and its address."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def run_service(
    *sites: Path, env: dict[str, str] | None = None, options: Sequence[str] = ()
) -> Iterator[RunningService]:
    """Serve sites in a process of its own, on any free port, and stop it with Ctrl-C."""
    command = [sys.executable, "-m", "gallery_service", "serve", *map(str, sites), "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CALR_SERVICE_THREADS": "1", **(env or {})}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            found = re.search(r"on (https?://\S+) ", line)
            if found:
                break
        else:
            pytest.fail(f"the service did not start: {''.join(seen)}")
        yield RunningService(process, found[1])
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()


Serve = Callable[..., RunningService]


@pytest.fixture(scope="module")
def service(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The indexed site, served on a real socket, for the tests of one file."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("served"))
    with run_service(site.folder) as running:
        yield running
