"""Checksums of rows: every table has them or says why not, whoever writes keeps them right, and damage stays damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

import gallery_service.investigations.tables  # noqa: F401 adds its tables to Base
from gallery_service.access.database import service_database
from gallery_service.access.tables import AccessBase
from gallery_service.databases.database import Database
from gallery_service.databases.gallery import GALLERY, gallery_database
from gallery_service.databases.row_checksum import Checksummed, checked_rows, read_any_text, row_checksum
from gallery_service.investigations.erased import scrub_erased
from gallery_service.investigations.tables import HitRow, InvestigationRow
from gallery_service.storage.tables import Base, GalleryStateRow, SegmentRow
from ingest.erasures import Erasure, add_erasures
from ingest.site import SiteConfig
from ingest.workspace import Workspace

from .. import synthetic

SAID_AGAIN = {
    "tracklets": "by the shards",
    "audit": "by the entry's own hash",
}


@pytest.fixture
def database(either_database: str, tmp_path: Path) -> Database:
    return gallery_database(Workspace(synthetic.write_site(tmp_path / "a-site", name="a-site")))


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    opened = database.open()
    yield opened
    opened.dispose()


def changed(engine: Engine) -> list[str]:
    return [name for name, whole in checked_rows(engine) if not whole]


def writing(engine: Engine) -> Session:
    return Session(engine.connect().execution_options(writes=True))


INVESTIGATION = {
    "investigation_id": "c" * 32, "title": "t", "purpose": "p", "notes": "n", "status": "open", "created_by": "eve",
    "created_at": 1, "changed_at": 1,
}  # fmt: skip


@pytest.mark.parametrize("base", [Base, AccessBase])
def test_every_table_has_checksums_or_says_why_not(base: type[Base] | type[AccessBase]) -> None:
    for mapper in base.registry.mappers:
        table = mapper.class_.__tablename__
        assert issubclass(mapper.class_, Checksummed) != (table in SAID_AGAIN), table


def test_a_checksum_is_of_every_value_and_stays_when_a_column_is_added() -> None:
    row = {"number": 1, "title": "Wäsche", "vector": b"\x00\xff", "score": 0.5, "stale": True, "note": None}
    whole = row_checksum(row)
    assert whole == "305bc8d1f444f779af4e75a2b09b0625", "the form may never change: it is in people's databases"
    for name, value in {
        "number": 2, "title": "Wasche", "vector": b"\x00\xfe", "score": 0.75, "stale": False, "note": "",
    }.items():  # fmt: skip
        assert row_checksum({**row, name: value}) != whole, name
    assert row_checksum({**row, "number": 1.0}) != whole, "of another kind"
    assert row_checksum({**row, "title": "Wäsche".encode()}) != whole, "of another kind"
    assert row_checksum({**row, "later": None, "checksum": "x"}) == whole


def test_what_use_leaves_in_the_tables_has_its_checksums(either_database: str, lived_in_site: SiteConfig) -> None:
    for database in (gallery_database(Workspace(lived_in_site)), service_database()):
        opened = database.open()
        rows = list(checked_rows(opened))
        opened.dispose()
        assert {name.split()[3] for name, _ in rows} == {
            table for table, _ in database.rows() if table not in {*SAID_AGAIN, "alembic_version"}
        }
        assert [name for name, whole in rows if not whole] == []
        database.close()


def test_values_that_a_database_gives_back_otherwise_fit_too(engine: Engine) -> None:
    """SQLite keeps a whole float as a number, and zero has one sign there."""
    with writing(engine) as session:
        session.execute(
            insert(InvestigationRow).values(**INVESTIGATION | {"title": "☂ \U0001f9e5 'x' \\ \n", "notes": ""})
        )
        hit = dict.fromkeys(("decision", "note", "decided_by", "model_version"), "x") | {"decided_at": 2**62}
        for score in (3, -0.0, 1e-300, 0.1, 12345678901234567890.0):
            session.add(HitRow(investigation=1, start_pts_s=-0.0, end_pts_s=7, score=score, **hit))
            session.flush()
        segment = {"model_version": "m", "camera_id": "c", "day": "d", "tracklets": 1, "size_bytes": 2**40}
        session.add(SegmentRow(name="a", stale=True, **segment))
        session.execute(insert(SegmentRow), [{"name": name, "stale": False, **segment} for name in "bc"])
        session.commit()
    assert changed(engine) == []
    with writing(engine) as session:
        assert list(session.scalars(select(HitRow.hit_id).order_by(HitRow.hit_id))) == [1, 2, 3, 4, 5]
        for found in session.scalars(select(HitRow)):
            found.score, found.end_pts_s = None, -0.0
        for segment_ in session.scalars(select(SegmentRow)):
            segment_.stale = True
        session.commit()
    assert changed(engine) == []


def test_statements_that_would_leave_a_wrong_checksum_are_refused(engine: Engine) -> None:
    with writing(engine) as session:
        for rows in (update(GalleryStateRow), update(GalleryStateRow.__table__)):  # type: ignore[arg-type]
            with pytest.raises(StatementError, match="change them as objects"):
                session.execute(rows.values(generation=7))
        with pytest.raises(StatementError, match="needs a value for title"):
            session.execute(insert(InvestigationRow).values(**INVESTIGATION | {"title": func.lower("T")}))
    assert changed(engine) == []


@pytest.mark.parametrize("column", ["number", "title", "status", "changed_at", "checksum"])
def test_a_changed_value_is_found_in_its_row_and_stays_found(engine: Engine, column: str) -> None:
    with writing(engine) as session:
        for name in "cd":
            session.execute(insert(InvestigationRow).values(**INVESTIGATION | {"investigation_id": name * 32}))
        session.commit()
    value = "3" if column in ("number", "changed_at") else "'x'"
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text(f"UPDATE investigations SET {column} = {value} WHERE number = 2"))
    named = [f"the row of investigations with number {3 if column == 'number' else 2}"]
    assert changed(engine) == named
    for notes in ("more", "still more"):
        with writing(engine) as session:
            session.scalars(select(InvestigationRow).where(InvestigationRow.number > 1)).one().notes = notes
            session.commit()
        assert changed(engine) == named, "the change of another column does not make it right"
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("DELETE FROM investigations WHERE number > 1"))
    assert changed(engine) == []


def test_a_session_that_goes_on_writes_right_checksums(engine: Engine) -> None:
    """Also where it has not loaded everything, or nothing any more."""
    with writing(engine) as session:
        row = InvestigationRow(**INVESTIGATION)
        session.add(row)
        session.flush()
        row.notes = "more"
        session.flush()
        session.expire(row)
        row.title = "another"
        session.commit()
    assert changed(engine) == []


def test_rows_of_an_older_program_get_theirs(database: Database) -> None:
    from alembic import command

    from gallery_service.databases.migration import _config

    engine = database.open()
    with writing(engine) as session:
        session.execute(insert(InvestigationRow).values(**INVESTIGATION))
        session.commit()
    config = _config(GALLERY.migrations)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0005_audit")
    assert list(checked_rows(engine)) == []
    engine.dispose()
    assert list(checked_rows(database.open())) == [
        ("the row of gallery_state with id 1", True),
        ("the row of investigations with number 1", True),
    ]
    assert database.changed_definitions() == []
    database.close()


def test_a_damaged_row_of_an_older_program_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    from alembic import command

    from gallery_service.databases.migration import _config

    site = synthetic.write_site(tmp_path / "a-site", name="a-site")
    database = gallery_database(Workspace(site))
    engine = database.open()
    with writing(engine) as session:
        session.execute(insert(InvestigationRow).values(**INVESTIGATION))
        session.execute(insert(InvestigationRow).values(**{**INVESTIGATION, "investigation_id": "d" * 32}))
        session.commit()
    config = _config(GALLERY.migrations)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0005_audit")
    engine.dispose()
    with sqlite3.connect(Workspace(site).gallery / "gallery.sqlite") as plain:
        plain.execute("UPDATE investigations SET title = CAST(x'ff80' AS TEXT) WHERE number = 1")
    opened = database.open()
    read_any_text(opened)
    assert changed(opened) == ["the row of investigations with number 1"]
    database.close()


def test_an_erased_hit_goes_although_its_note_cannot_be_read(lived_in_site: SiteConfig) -> None:
    workspace = Workspace(lived_in_site)
    engine = gallery_database(workspace).open()
    with Session(engine) as session:
        hit_id, recording = session.execute(select(HitRow.hit_id, HitRow.recording_sha256)).first() or (0, "")
    with sqlite3.connect(workspace.gallery / "gallery.sqlite") as plain:
        plain.execute("UPDATE investigation_hits SET note = CAST(x'ff61' AS TEXT) WHERE hit_id = ?", (hit_id,))
        plain.execute("UPDATE investigation_hits SET tracklet_id = 'gone/1' WHERE hit_id = ?", (hit_id,))
    add_erasures(workspace.erasures, [Erasure(str(recording), 0.0, 1e6, (0, 0, 9, 9))])
    named = [f"the row of investigation_hits with hit_id {hit_id}"]
    checking = gallery_database(workspace).open()
    read_any_text(checking)
    assert changed(checking) == named
    assert scrub_erased(workspace, engine, 5) == 1
    with Session(engine) as session:
        hit = session.get_one(HitRow, hit_id)
        assert (hit.note, hit.tracklet_id, hit.erased_at) == ("", None, 5)
    assert changed(checking) == named
    checking.dispose()
    with writing(engine) as session:
        session.delete(session.get_one(HitRow, hit_id))
        session.commit()
    engine.dispose()
