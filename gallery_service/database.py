"""Opening gallery.sqlite and service.sqlite: write-ahead log, foreign keys, and the schema brought up to date."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError

from gallery_service.errors import GalleryError

MIGRATIONS = Path(__file__).parent / "migrations"
GALLERY_REMEDY = (
    "restore it from a backup, or move it away and run the index command, which makes all of it anew but the audit log "
    "and the investigations"
)
# Alembic's context is global to the process.
_migrating = threading.Lock()
_SCRUB_S = 30.0


def open_database(path: Path, migrations: Path = MIGRATIONS, remedy: str = GALLERY_REMEDY) -> Engine:
    """Open the database, make it when it is missing, and migrate it to this version's schema.

    Args:
        path: of the file; its folder is made.
        migrations: Alembic's folder for it.
        remedy: what to do when the file cannot be read.

    Raises:
        GalleryError: the file is no database, or was written by a newer version of this program.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30.0})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        _migrate(engine, path, migrations)
    except DatabaseError as error:
        engine.dispose()
        raise GalleryError(f"{path}: not a database that can be read ({error.orig}); {remedy}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def scrub_database(path: Path) -> None:
    """Leave nothing of what was deleted in the database's files: neither in free pages nor in the write-ahead log.

    Args:
        path: of gallery.sqlite, which others may be using.

    Raises:
        GalleryError: somebody reads it all the time, or the disk is full.
    """
    connection = sqlite3.connect(path, timeout=_SCRUB_S, isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("VACUUM")
        give_up = time.monotonic() + _SCRUB_S
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > give_up:
                raise GalleryError(f"{path}: in use all the time, so that its log cannot be emptied; run this again")
            time.sleep(0.1)
    except sqlite3.Error as error:
        raise GalleryError(f"{path}: cannot be rid of what was deleted ({error}); run this again") from None
    finally:
        connection.close()


def _configure(connection: Any, _record: object) -> None:
    # SQLAlchemy shall say when a transaction begins, not sqlite3's module, which leaves DDL outside.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # What is erased is overwritten, not only unlinked.
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A reader that turns writer halfway can fail at once, without waiting: writers say so from the start.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine, path: Path, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    if _revision(engine) == head:
        return
    with _migrating, engine.connect().execution_options(writes=True) as connection, connection.begin():
        found = _revision_of(connection)
        if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
            raise GalleryError(
                f"{path}: written by a newer version of this program (schema {found}, known up to {head}); "
                "update the program"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return _revision_of(connection)


def _revision_of(connection: Connection) -> str | None:
    known = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).first()
    if known is None:
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)
