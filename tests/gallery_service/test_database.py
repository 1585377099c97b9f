"""Opening gallery.sqlite: migrations, refusals, and a record that cannot be rewritten."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DatabaseError

from gallery_service.database import open_database
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


def add_search(repository: GalleryRepository, query_id: str) -> None:
    repository.add_search(
        query_id=query_id,
        searched_at=1,
        who="local",
        site="toy",
        purpose=None,
        model_version="m-1",
        query_image_sha256=None,
        query_tracklet_id="cam1/v/1",
        filters="{}",
        result="[]",
    )


@pytest.mark.parametrize("change", ["UPDATE searches SET who = 'nobody'", "DELETE FROM searches"])
def test_the_record_of_searches_is_append_only(engine: Engine, tmp_path: Path, change: str) -> None:
    repository = GalleryRepository(engine)
    add_search(repository, "q1")
    add_search(repository, "q2")
    with pytest.raises(DatabaseError, match="append-only"), engine.connect() as connection, connection.begin():
        connection.execute(text(change))
    # Not only for this program: the rule lives in the file.
    with (
        sqlite3.connect(tmp_path / "gallery" / "gallery.sqlite") as plain,
        pytest.raises(sqlite3.Error, match="append"),
    ):
        plain.execute(change)
    assert [row.query_id for row in repository.searches()] == ["q1", "q2"]


def test_writers_wait_for_each_other(engine: Engine) -> None:
    repository = GalleryRepository(engine)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_search(repository, f"q{n}"), range(40)))
    assert len(repository.searches()) == 40
