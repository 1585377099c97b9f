"""The commands that manage users and keys, as an admin types them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import Result
from typer.testing import CliRunner

from gallery_service.__main__ import app
from gallery_service.access.database import service_database
from gallery_service.access.identity import Identities
from gallery_service.access.repository import AccessRepository
from gallery_service.access.tables import AccessBase, UserRow

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALR_SITES", str(tmp_path))
    return tmp_path / "service.sqlite"


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed)


def done(*arguments: object, typed: str | None = None) -> Result:
    result = run(*arguments, typed=typed)
    assert result.exit_code == 0, result.stderr
    return result


def refused(*arguments: object, typed: str | None = None) -> str:
    result = run(*arguments, typed=typed)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    return result.stderr


def add(name: str, role: str = "investigator", *see: str) -> Result:
    rights = [part for right in see for part in ("--see", right)]
    return done("users", "add", name, "--role", role, *rights, "--password-stdin", typed=PASSWORD + "\n")


def users() -> dict[str, dict[str, object]]:
    return {user["name"]: user for user in map(json.loads, done("users", "list", "--json").stdout.splitlines())}


def test_users_come_change_and_are_disabled() -> None:
    add("anna", "admin", "*")
    told = add("eve", "viewer").stderr
    assert "sees nothing yet" in told
    done("users", "grant", "eve", "lobby/cam1", "plaza")
    done("users", "grant", "eve", "lobby/cam1", "lobby/cam2")
    done("users", "revoke", "eve", "lobby/cam2")
    done("users", "role", "eve", "investigator")
    assert (users()["eve"]["rights"], users()["eve"]["role"]) == (["lobby/cam1", "plaza"], "investigator")
    assert users()["anna"]["rights"] == ["*"]
    done("users", "disable", "eve")
    assert users()["eve"]["disabled_at"] is not None
    assert "eve, investigator, disabled, sees lobby/cam1 plaza" in done("users", "list").stdout
    done("users", "enable", "eve")
    assert users()["eve"]["disabled_at"] is None
    log = done("audit", "show", "users", "--json").stdout
    entries = [json.loads(line) for line in log.splitlines()]
    assert [entry["action"] for entry in reversed(entries)] == [
        "user.added", "user.added", "user.granted", "user.granted", "user.revoked", "user.role", "user.disabled",
        "user.enabled",
    ]  # fmt: skip
    assert all(entry["via"].startswith("command line of ") for entry in entries)
    assert PASSWORD not in log
    assert "argon2" not in log
    done("audit", "verify", "users")


def test_a_password_opens_and_another_one_replaces_it(database: Path) -> None:
    add("anna")
    identities = Identities(service_database())
    assert identities.sign_in("anna", PASSWORD, "here")
    done("users", "password", "anna", "--password-stdin", typed="another long password\n")
    with pytest.raises(ValueError, match="name or password is wrong"):
        identities.sign_in("anna", PASSWORD, "here")
    assert identities.sign_in("anna", "another long password", "here")
    identities.close()


def test_a_password_kept_at_a_lower_cost_is_kept_anew(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from argon2 import PasswordHasher

    add("anna")
    cheap = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    identities = Identities(service_database())
    with identities.repository._writing() as session:
        session.get_one(UserRow, "anna").password = cheap
    identities.sign_in("anna", PASSWORD, "here")
    kept = identities.repository.password("anna")
    assert kept is not None
    assert "m=65536" in kept
    assert identities.sign_in("anna", PASSWORD, "here")
    identities.close()


def test_keys_are_shown_once_and_revoked(database: Path) -> None:
    add("anna", "investigator", "lobby")
    made = done("keys", "add", "anna", "--name", "nightly export", "--days", 2)
    secret = made.stdout.strip()
    assert secret.startswith("calr_")
    listed = done("keys", "list", "--json").stdout
    assert secret not in listed
    key = json.loads(listed)
    assert (key["user"], key["name"], key["revoked_at"]) == ("anna", "nightly export", None)
    identities = Identities(service_database())
    found = identities.identify(f"Bearer {secret}", None, at_this_machine=True)
    assert found is not None
    assert (found.caller.name, found.caller.via) == ("anna", "key nightly export")
    assert (found.caller.cameras("lobby"), found.caller.cameras("plaza")) == (None, frozenset())
    done("keys", "revoke", key["key_id"])
    with pytest.raises(ValueError, match="revoked"):
        identities.identify(f"Bearer {secret}", None, at_this_machine=True)
    identities.close()
    assert secret.encode() not in database.read_bytes()


def test_wrong_use_is_named(database: Path) -> None:
    add("anna")
    for name in ("Anna", "local", "", "a" * 65, "a b", "../x"):
        message = refused("users", "add", name, "--role", "viewer", "--password-stdin", typed=PASSWORD)
        assert "cannot be a user's name" in message
    assert "already" in refused("users", "add", "anna", "--role", "admin", "--password-stdin", typed=PASSWORD)
    assert "12 to 256" in refused("users", "add", "bob", "--role", "admin", "--password-stdin", typed="short")
    assert "--password-stdin" in refused("users", "add", "bob", "--role", "admin")
    for right in ("lobby/", "*/cam1", "Lobby", "a/b/c", ""):
        assert "is not a right" in refused("users", "grant", "anna", right)
    assert "was not granted 'lobby/cam1'" in refused("users", "revoke", "anna", "lobby/cam1")
    for command in (("disable",), ("enable",), ("grant", "*"), ("revoke", "*"), ("role", "viewer")):
        assert "no user 'nobody'" in refused("users", command[0], "nobody", *command[1:])
    assert "no user 'nobody'" in refused("keys", "add", "nobody", "--name", "x")
    assert "1 to 3650 days" in refused("keys", "add", "anna", "--name", "x", "--days", 0)
    assert "what it is for" in refused("keys", "add", "anna", "--name", " ")
    assert "no key" in refused("keys", "revoke", "x")
    assert run("users", "add", "bob", "--role", "king", "--password-stdin").exit_code == 2
    assert list(users()) == ["anna"]
    database.write_bytes(b"not a database" * 1000)
    assert "backup" in refused("users", "list")


def test_migrations_make_exactly_the_tables_that_queries_use(database: Path) -> None:
    repository = AccessRepository(service_database())
    with repository._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), AccessBase.metadata) == []
    repository.close()


@pytest.mark.parametrize(
    "change", ["UPDATE audit SET who = 'x'", "DELETE FROM audit", "REPLACE INTO audit SELECT * FROM audit"]
)
def test_the_log_of_users_is_append_only(database: Path, change: str) -> None:
    add("anna")
    with sqlite3.connect(database) as plain, pytest.raises(sqlite3.Error, match="append-only"):
        plain.execute(change)
