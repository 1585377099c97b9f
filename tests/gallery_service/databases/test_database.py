"""What holds of a database whichever kind it is: migrations, refusals, writers that wait, a log that only grows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from gallery_service.caller import LOCAL
from gallery_service.databases.database import Database
from gallery_service.databases.gallery import gallery_database
from gallery_service.errors import DatabaseUnavailable, GalleryError
from gallery_service.storage.repository import GalleryRepository, StoredSegment
from gallery_service.storage.tables import Base, GalleryStateRow
from ingest.workspace import Workspace

from .. import synthetic


@pytest.fixture
def workspace(either_database: str, tmp_path: Path) -> Workspace:
    return Workspace(synthetic.write_site(tmp_path / "a-site", name="a-site"))


@pytest.fixture
def database(workspace: Workspace) -> Database:
    return gallery_database(workspace)


def test_it_is_there_once_it_was_opened(workspace: Workspace, database: Database) -> None:
    assert not database.exists()
    assert not workspace.gallery.exists(), "asking makes nothing"
    database.open().dispose()
    assert database.exists()
    assert database.identity() == gallery_database(workspace).identity()
    database.close()


def test_migrations_make_exactly_the_tables_that_queries_use(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = database.open()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_many_may_open_a_new_database_at_once(workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(lambda _: gallery_database(workspace).open(), range(8)))
    assert [GalleryRepository(engine).generation() for engine in engines] == [0] * 8
    for engine in engines:
        engine.dispose()


def test_opening_again_changes_nothing(workspace: Workspace) -> None:
    for _ in range(2):
        repository = GalleryRepository(gallery_database(workspace).open())
        repository.complete("m-1", 5)
        repository.close()
    repository = GalleryRepository(gallery_database(workspace).open())
    assert repository.completed_versions() == ["m-1"]
    repository.close()


def test_a_database_of_a_newer_program_is_refused(database: Database) -> None:
    engine = database.open()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(GalleryError, match="newer version of this program") as refused:
        database.open()
    assert str(refused.value).startswith(str(database.place))


def test_a_program_that_is_older_than_the_tables_have_become_reads_but_writes_nothing(
    workspace: Workspace, database: Database
) -> None:
    """A service that goes on while the program is updated: its rows would lack what the newer one puts into them."""
    older = GalleryRepository(gallery_database(workspace).open())
    older.record(LOCAL, "search", {"query_id": "q1"})
    engine = database.open()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnavailable, match="another version of this program") as refused:
        older.record(LOCAL, "search", {"query_id": "q2"})
    assert str(refused.value).startswith(str(database.place))
    assert str(database.place) not in refused.value.told
    assert older.audit.head()[0] == 1
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == 1
    older.close()
    engine.dispose()


_OF_BOTH = [
    "UPDATE audit SET who = 'nobody'",
    "DELETE FROM audit",
    "INSERT INTO audit SELECT * FROM audit WHERE true ON CONFLICT (id) DO UPDATE SET who = 'nobody'",
]
_OF_FILES = ["REPLACE INTO audit SELECT id, at, 'nobody', via, action, purpose, details, previous, hash FROM audit"]
_OF_SERVERS = ["TRUNCATE audit"]


@pytest.mark.parametrize(
    ("either_database", "change"),
    [
        *(("file", change) for change in [*_OF_BOTH, *_OF_FILES]),
        *(("server", change) for change in [*_OF_BOTH, *_OF_SERVERS]),
    ],
    indirect=["either_database"],
)
def test_the_audit_log_is_append_only(database: Database, change: str) -> None:
    """Not only for this program: the rule lies in the database."""
    repository = GalleryRepository(database.open())
    repository.record(LOCAL, "search", {"query_id": "q1"})
    repository.record(LOCAL, "search", {"query_id": "q2"})
    with (
        pytest.raises(DatabaseError, match="append-only"),
        repository.engine.connect().execution_options(writes=True) as connection,
    ):
        connection.exec_driver_sql(change)
    assert repository.audit.head()[0] == 2
    assert repository.audit.verify().problem is None
    repository.close()


def test_writers_wait_for_each_other(workspace: Workspace) -> None:
    """Also those of other processes, who have connections of their own."""
    repositories = [GalleryRepository(gallery_database(workspace).open()) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: repositories[n % 2].record(LOCAL, "search", {"query_id": n}), range(40)))
    for repository in repositories:
        assert repository.audit.head()[0] == 40
        assert repository.audit.verify().problem is None
        repository.close()


def test_what_one_transaction_reads_is_of_one_moment(workspace: Workspace) -> None:
    writer, reader = (GalleryRepository(gallery_database(workspace).open()) for _ in range(2))
    with Session(reader.engine) as session:
        before = session.scalars(select(GalleryStateRow.generation)).one()
        writer.complete("m-1", 5)
        session.expire_all()
        assert session.scalars(select(GalleryStateRow.generation)).one() == before
    assert reader.generation() == before + 1
    writer.close()
    reader.close()


def test_whatever_is_there_already_is_replaced_or_stays(database: Database) -> None:
    repository = GalleryRepository(database.open())
    shard = {"shard": "cam1/a", "camera_id": "cam1", "recording_sha256": "x"} | dict.fromkeys(("tracklets", "crops"), 1)
    segment = StoredSegment("m-1/cam1/2026-03-01/a", "m-1", "cam1", "2026-03-01", 1, 1)
    for size in (1, 2):
        stored = StoredSegment(**{**vars(segment), "size_bytes": size})
        repository.put_shard("m-1", {**shard, "summary_sha256": "y"}, [], [stored])
        repository.tombstone([("cam1/a", "cam1/a/1")])
        repository.complete("m-1", size)
    assert [(row.name, row.size_bytes) for row in repository.segments()] == [(segment.name, 2)]
    assert (repository.embedded("m-1"), repository.tombstones()) == ({"cam1/a"}, {"cam1/a"})
    assert repository.completed_versions() == ["m-1"]
    repository.close()


def test_rows_are_ordered_by_code_points(database: Database) -> None:
    """Segments of one camera's day stand together, whatever a language thinks of '-' and '/'."""
    repository = GalleryRepository(database.open())
    names = ["m-1/cam-1/d/a", "m-1/cam1/d/a", "m-1/cam-1/d/b", "m-1/cam1/d/b", "m-1/Cam1/d/a", "m-1/çam/d/a"]
    shard = {"shard": "cam1/a", "camera_id": "cam1", "recording_sha256": "x", "tracklets": 0, "crops": 0}
    segments = [StoredSegment(name, "m-1", "cam1", "d", 1, 1) for name in names]
    repository.put_shard("m-1", {**shard, "summary_sha256": "y"}, [], segments)
    assert [segment.name for segment in repository.segments()] == sorted(names)
    repository.close()
