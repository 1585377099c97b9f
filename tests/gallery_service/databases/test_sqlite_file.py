"""A gallery's database in a file: how it is opened, and what an older version of the program left in one."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from gallery_service.audit.chain import Verdict
from gallery_service.audit.trail import EntryFilter
from gallery_service.caller import LOCAL
from gallery_service.databases import sqlite_file
from gallery_service.databases.gallery import GALLERY
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.errors import DatabaseUnavailable, GalleryError
from gallery_service.storage.repository import GalleryRepository


def test_uses_the_write_ahead_log_and_foreign_keys(tmp_path: Path) -> None:
    with SqliteFile(tmp_path / "gallery.sqlite", GALLERY).open().connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(GalleryError, match=r"gallery\.sqlite.*backup"):
        SqliteFile(path, GALLERY).open()


def test_one_that_is_locked_full_or_may_not_be_written_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever moved it away as damaged would lose the audit log."""
    monkeypatch.setattr(sqlite_file, "_WAIT_S", 0.2)
    path = tmp_path / "gallery.sqlite"
    repository = GalleryRepository(SqliteFile(path, GALLERY).open())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        ((newest,),) = other.execute("SELECT version_num FROM alembic_version").fetchall()
        other.execute("UPDATE alembic_version SET version_num = '0005_audit'")  # so that there is something to write
        other.execute("BEGIN IMMEDIATE")
        for write in (lambda: SqliteFile(path, GALLERY).open(), lambda: repository.record(LOCAL, "search", {})):
            with pytest.raises(DatabaseUnavailable, match=r"gallery\.sqlite.*locked.*run this again") as refused:
                write()
            assert "backup" not in str(refused.value)
        other.execute("ROLLBACK")
        other.execute("UPDATE alembic_version SET version_num = ?", (newest,))
    with repository.engine.connect().execution_options(writes=True) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(DatabaseUnavailable, match=r"gallery\.sqlite.*full.*make room"):
            connection.exec_driver_sql("CREATE TABLE more AS SELECT randomblob(100000)")
    repository.close()


def test_a_new_one_is_not_for_everybody_on_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    repository = GalleryRepository(SqliteFile(path, GALLERY).open())
    repository.record(LOCAL, "search", {})
    for file in (path, path.with_name("gallery.sqlite-wal"), path.with_name("gallery.sqlite-shm")):
        assert file.stat().st_mode & 0o007 == 0, file.name
    repository.close()


def test_no_message_shows_what_is_in_a_row(tmp_path: Path) -> None:
    engine = SqliteFile(tmp_path / "gallery.sqlite", GALLERY).open()
    with engine.connect() as connection, pytest.raises(DatabaseError) as refused:
        connection.execute(text("INSERT INTO nothing VALUES (:name)"), {"name": "Mrs Q"})
    assert "Mrs Q" not in str(refused.value)
    engine.dispose()


def test_the_record_of_searches_becomes_the_beginning_of_the_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    migrate_to(path, "0004_investigations")
    with sqlite3.connect(path) as plain:
        for n in (1, 2):
            plain.execute(
                "INSERT INTO searches VALUES (?, ?, ?, 'eve', 'toy', ?, 'm-1', NULL, 'cam1/v/1', ?, ?)",
                (n, f"q{n}", n, None if n == 1 else "case 7", '{"top_k": 5, "cameras": ["b", "a"]}', '["cam2/v/3"]'),
            )
    repository = GalleryRepository(SqliteFile(path, GALLERY).open())
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
    config.set_main_option("script_location", str(GALLERY.migrations))
    with create_engine(f"sqlite:///{path}").begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_where_no_file_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatabaseUnavailable, match=r"file/gallery\.sqlite: cannot be used now .*may write"):
        SqliteFile(tmp_path / "file" / "gallery.sqlite", GALLERY).open()


def test_an_empty_file_is_none_yet_and_opening_touches_none_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    path.touch()
    database = SqliteFile(path, GALLERY)
    assert database.identity() is None
    database.open().dispose()
    identity = database.identity()
    os.utime(path, (1e9, 1e9))
    database.open().dispose()
    assert (database.identity(), path.stat().st_mtime) == (identity, 1e9)


def test_emptying_the_log_waits_for_no_reader_and_keeps_no_writer_out(tmp_path: Path) -> None:
    database = SqliteFile(tmp_path / "gallery.sqlite", GALLERY)
    repository = GalleryRepository(database.open())
    with repository.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM audit")).all()
        repository.record(LOCAL, "search", {})  # so that the log has what this reader does not
        emptying = threading.Thread(target=database.empty_log)
        emptying.start()
        emptying.join(sqlite_file._WAIT_S / 2)
        assert not emptying.is_alive()
        scrubbing = threading.Thread(target=database.scrub)
        scrubbing.start()
        repository.record(LOCAL, "search", {})
        assert scrubbing.is_alive(), "it waits for the reader, and let the writer in"
    scrubbing.join()
    repository.close()
