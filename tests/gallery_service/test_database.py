"""Opening gallery.sqlite: migrations, refusals, and a log that cannot be rewritten."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DatabaseError

from gallery_service.audit.chain import Verdict
from gallery_service.audit.trail import EntryFilter
from gallery_service.caller import LOCAL
from gallery_service.database import MIGRATIONS, open_database
from gallery_service.errors import GalleryError
from gallery_service.repository import GalleryRepository
from gallery_service.tables import Base


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(tmp_path / "gallery" / "gallery.sqlite")


def test_migrations_make_exactly_the_tables_that_queries_use(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_uses_the_write_ahead_log_and_foreign_keys(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_many_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(lambda _: open_database(tmp_path / "gallery.sqlite"), range(8)))
    assert [GalleryRepository(engine).generation() for engine in engines] == [0] * 8


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    repository = GalleryRepository(open_database(tmp_path / "gallery.sqlite"))
    repository.complete("m-1", 5)
    assert GalleryRepository(open_database(tmp_path / "gallery.sqlite")).completed_versions() == ["m-1"]


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    engine = open_database(path)
    with engine.connect() as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(GalleryError, match="newer version of this program"):
        open_database(path)


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(GalleryError, match=r"gallery\.sqlite.*backup"):
        open_database(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
        "REPLACE INTO audit SELECT id, at, 'nobody', via, action, purpose, details, previous, hash FROM audit",
    ],
)
def test_the_audit_log_is_append_only(engine: Engine, tmp_path: Path, change: str) -> None:
    repository = GalleryRepository(engine)
    repository.record(LOCAL, "search", {"query_id": "q1"})
    repository.record(LOCAL, "search", {"query_id": "q2"})
    with pytest.raises(DatabaseError, match="append-only"), engine.connect() as connection, connection.begin():
        connection.execute(text(change))
    # Not only for this program: the rule lives in the file.
    with (
        sqlite3.connect(tmp_path / "gallery" / "gallery.sqlite") as plain,
        pytest.raises(sqlite3.Error, match="append"),
    ):
        plain.execute(change)
    assert repository.audit.head()[0] == 2
    assert repository.audit.verify().problem is None


def test_writers_wait_for_each_other(engine: Engine) -> None:
    repository = GalleryRepository(engine)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: repository.record(LOCAL, "search", {"query_id": n}), range(40)))
    assert repository.audit.head()[0] == 40
    assert repository.audit.verify().problem is None


def test_the_record_of_searches_becomes_the_beginning_of_the_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    migrate_to(path, "0004_investigations")
    with sqlite3.connect(path) as plain:
        for n in (1, 2):
            plain.execute(
                "INSERT INTO searches VALUES (?, ?, ?, 'eve', 'toy', ?, 'm-1', NULL, 'cam1/v/1', ?, ?)",
                (n, f"q{n}", n, None if n == 1 else "case 7", '{"top_k": 5, "cameras": ["b", "a"]}', '["cam2/v/3"]'),
            )
    repository = GalleryRepository(open_database(path))
    assert repository.audit.verify() == Verdict(2, repository.audit.head()[1], None)
    second, first = (entry for entry, _ in repository.audit.newest(EntryFilter(), None, 10))
    assert (first.at, first.who, first.action, first.purpose) == (1, "eve", "search", None)
    assert (second.at, second.purpose) == (2, "case 7")
    assert json.loads(first.details) == {
        "query_id": "q1", "model_version": "m-1", "query_image_sha256": [], "query_tracklet_id": "cam1/v/1",
        "filters": {"top_k": 5, "cameras": ["b", "a"]}, "shown": ["cam2/v/3"],
    }  # fmt: skip
    repository.record(LOCAL, "search", {"query_id": "q3"})
    assert repository.audit.verify().problem is None


def migrate_to(path: Path, revision: str) -> None:
    """A database as an older version of this program left it."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with create_engine(f"sqlite:///{path}").begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
