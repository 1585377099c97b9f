"""The audit commands on a log that was tampered with by somebody who can write the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gallery_service.__main__ import app
from gallery_service.access.database import service_database
from gallery_service.access.repository import AccessRepository
from gallery_service.caller import LOCAL, Caller, Role
from gallery_service.databases.database import Database
from gallery_service.databases.gallery import gallery_database
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.storage.repository import GalleryRepository
from ingest.site import SiteConfig
from ingest.workspace import Workspace

from .. import synthetic
from ..test_command_line import run as run_process

EVE = Caller("eve", Role.INVESTIGATOR, None, "session")


def run(*arguments: object) -> Result:
    """A command, in this process: starting one takes seconds."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """The message of a command that must fail as a user's mistake does."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.fixture
def site(tmp_path: Path) -> SiteConfig:
    """A site that was never indexed."""
    return synthetic.write_site(tmp_path / "toy")


@pytest.fixture
def log(either_database: str, site: SiteConfig) -> Database:
    """The database of a site where five things were done."""
    database = gallery_database(Workspace(site))
    repository = GalleryRepository(database.open())
    for number in range(3):
        repository.record(EVE, "search", {"n": number}, purpose="case \x1b[2J 7")
    repository.record(EVE, "user", {})
    repository.record(LOCAL, "user.added", {"name": "eve"})
    repository.close()
    return database


def tamper(log: Database, *statements: str) -> None:
    """As somebody does it who knows about the triggers."""
    engine = log.open()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if isinstance(log, SqliteFile):
            triggers = (
                connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
            )
            for name in triggers:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("DROP FUNCTION audit_refuse CASCADE")
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_whole_log_is_checked_anchored_and_read(log: Database, site: SiteConfig) -> None:
    head = run("audit", "head", site.folder)
    assert head.exit_code == 0, head.stderr
    checked = run("audit", "verify", site.folder, "--head", head.stdout.strip(), "--json")
    assert checked.exit_code == 0, checked.stderr
    assert json.loads(checked.stdout) == {"whole": True, "entries": 5, "head": head.stdout.strip(), "problem": None}
    shown = run("audit", "show", site.folder, "--json", "--who", "eve", "--limit", 2)
    entries = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(entry["id"], entry["who"], entry["via"]) for entry in entries] == [
        (4, "eve", "session"),
        (3, "eve", "session"),
    ]
    assert entries[1]["details"] == {"n": 2}
    shown = run("audit", "show", site.folder, "--action", "user")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["5", "4"]
    shown = run("audit", "show", site.folder, "--action", "search", "--until", "2020-01-01T00:00:00Z")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "\x1b" not in run("audit", "show", site.folder).stdout, "a purpose must not steer the terminal"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE audit SET who = 'mallory' WHERE id = 2", "entry 2 was changed"),
        ("DELETE FROM audit WHERE id = 3", "entry 3 is missing"),
        ("DELETE FROM audit WHERE id = 1", "entry 1 is missing"),
        ("UPDATE audit SET previous = 'x' WHERE id = 4", "entry 4 does not follow on entry 3"),
    ],
)
def test_a_broken_log_ends_with_status_1_and_names_the_entry(
    log: Database, site: SiteConfig, statement: str, problem: str
) -> None:
    tamper(log, statement)
    checked = run("audit", "verify", site.folder)
    assert checked.exit_code == 1
    assert checked.stderr.startswith(f"broken: {problem}")


# Those with a server are processes in databases/test_commands_with_postgres.py.
@pytest.mark.parametrize("either_database", ["file"], indirect=True)
def test_the_exit_status_of_a_real_process(log: Database, site: SiteConfig) -> None:
    assert run_process("audit", "verify", site.folder).returncode == 0
    tamper(log, "DELETE FROM audit WHERE id = 2")
    broken = run_process("audit", "verify", site.folder)
    assert (broken.returncode, broken.stdout) == (1, "")
    assert broken.stderr == "broken: entry 2 is missing; after 1 comes 3\n"


def test_a_tail_cut_off_needs_the_head_kept_elsewhere(log: Database, site: SiteConfig) -> None:
    head = run("audit", "head", site.folder).stdout.strip()
    tamper(log, "DELETE FROM audit WHERE id > 3")
    assert run("audit", "verify", site.folder).exit_code == 0
    checked = run("audit", "verify", site.folder, "--head", head)
    assert checked.exit_code == 1
    assert "gone" in checked.stderr


def test_the_log_of_users_is_checked_like_a_sites(
    either_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALR_SITES", str(tmp_path))
    assert "no user was ever added" in refused("audit", "verify", "users")
    assert not list(tmp_path.iterdir())
    repository = AccessRepository(service_database())
    repository.record(EVE, "refused", {})
    repository.close()
    assert run("audit", "verify", "users").exit_code == 0
    tamper(service_database(), "UPDATE audit SET who = 'adam'")
    assert run("audit", "verify", "users").stderr.startswith("broken: entry 1 was changed")


def test_wrong_use_is_named(site: SiteConfig, log: Database) -> None:
    assert "64 hexadecimal digits" in refused("audit", "verify", site.folder, "--head", "deadbeef")
    assert "RFC 3339" in refused("audit", "show", site.folder, "--since", "yesterday")


def test_a_site_that_was_never_indexed_has_no_log(either_database: str, site: SiteConfig) -> None:
    assert "nothing was recorded" in refused("audit", "verify", site.folder)
    assert not gallery_database(Workspace(site)).exists()
