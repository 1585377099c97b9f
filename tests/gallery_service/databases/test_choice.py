"""CALR_DATABASE: what it may say, and that forgetting or giving it by mistake changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gallery_service.__main__ import app
from gallery_service.access.database import service_database
from gallery_service.access.repository import AccessRepository
from gallery_service.databases.gallery import gallery_database
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.errors import GalleryError
from ingest.site import SiteConfig
from ingest.workspace import Workspace

from .. import synthetic


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteConfig:
    monkeypatch.setenv("CALR_SITES", str(tmp_path / "sites"))
    return synthetic.write_site(tmp_path / "toy")


def refused(*arguments: object) -> str:
    """The message of a command, which must be one line with status 1."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
    assert "secret" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("value", [None, ""])
def test_without_it_rows_lie_in_files(site: SiteConfig, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("CALR_DATABASE", value)
    assert isinstance(gallery_database(Workspace(site)), SqliteFile)
    assert isinstance(service_database(), SqliteFile)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("eve:secret@host", "is no database's address"),
        ("postgresql://eve:secret@host:port/calr", "is no database's address"),
        ("mysql://eve:secret@host/calr", "of the kind 'mysql'"),
        ("sqlite:///secret.sqlite", "of the kind 'sqlite'"),
        ("postgresql+asyncpg://eve:secret@host/calr", "of the kind 'postgresql+asyncpg'"),
        ("postgresql://eve:secret@host", "names no database"),
    ],
)
def test_what_is_no_address_is_named_but_not_shown(
    site: SiteConfig, monkeypatch: pytest.MonkeyPatch, value: str, problem: str
) -> None:
    monkeypatch.setenv("CALR_DATABASE", value)
    for command in (["models", site.folder], ["audit", "verify", "users"], ["users", "list"], ["serve", site.folder]):
        said = refused(*command)
        assert said.startswith("error: CALR_DATABASE: ") and problem in said


def test_the_driver_is_an_extra(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALR_DATABASE", "postgresql://eve:secret@127.0.0.1/calr")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "-e '.[postgres]'" in refused("models", site.folder)


@pytest.mark.usefixtures("server_database")
def test_forgetting_it_does_not_begin_anew(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a service would let in whoever is at the machine, since there is no user in the file."""
    gallery_database(Workspace(site)).open().dispose()
    AccessRepository(service_database()).close()
    monkeypatch.delenv("CALR_DATABASE")
    assert "gallery.postgres: says that" in refused("models", site.folder)
    for command in (["users", "list"], ["audit", "verify", "users"]):
        assert "service.postgres: says that the rows are in a PostgreSQL database" in refused(*command)
    assert not list(site.folder.parent.rglob("*.sqlite"))
    (site.folder / "gallery" / "gallery.postgres").unlink()
    gallery_database(Workspace(site)).open().dispose()


def test_giving_it_leaves_no_file_behind_unnoticed(site: SiteConfig, request: pytest.FixtureRequest) -> None:
    gallery_database(Workspace(site)).open().dispose()
    request.getfixturevalue("server_database")
    assert "gallery.sqlite: holds the rows, but CALR_DATABASE names a server" in refused("models", site.folder)
    (site.folder / "gallery" / "gallery.sqlite").rename(site.folder / "old.sqlite")
    gallery_database(Workspace(site)).open().dispose()


@pytest.mark.usefixtures("server_database")
def test_a_marker_that_says_nothing_is_named(site: SiteConfig) -> None:
    (site.folder / "gallery").mkdir()
    (site.folder / "gallery" / "gallery.postgres").write_text("")
    with pytest.raises(GalleryError, match=r"gallery\.postgres: does not hold the id"):
        gallery_database(Workspace(site)).open()
