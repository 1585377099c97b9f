"""A database in a SQLite file: write-ahead log, foreign keys, and nothing left of what was deleted."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import DatabaseError

from gallery_service.databases.database import Contents, Database
from gallery_service.databases.migration import is_current, migrating, upgrade, write_only_this_schema
from gallery_service.errors import DatabaseUnavailable, GalleryError
from models.atomic import make_folder

_WAIT_S = 30.0
_MOST_SHOWN = 20
_WRITTEN = f"something else has written into it for more than {_WAIT_S:g} s; run this again once it has finished"
_MAY_NOT = "see that this user may write it, its folder and the files beside it"
_MENDED_BY = {
    sqlite3.SQLITE_BUSY: _WRITTEN,
    sqlite3.SQLITE_LOCKED: _WRITTEN,
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_READONLY: _MAY_NOT,
    sqlite3.SQLITE_CANTOPEN: _MAY_NOT,
    sqlite3.SQLITE_PERM: _MAY_NOT,
}
"""By SQLite's code of an error, what to do about it."""


class SqliteFile(Database):
    """A SQLite file.

    Args:
        path: of the file; `open` makes it, and its folder.
        contents: what it is for.
    """

    def __init__(self, path: Path, contents: Contents) -> None:
        self.place: Path = path
        self._contents = contents

    def identity(self) -> Hashable | None:
        """As `Database.identity`: a file that was moved away or put back from a backup is another one; an empty one is
        none yet, since whoever puts it back may be about to fill it."""
        try:
            stat = self.place.stat()
        except FileNotFoundError:
            return None
        return (stat.st_dev, stat.st_ino) if stat.st_size else None

    def open(self) -> Engine:
        """As `Database.open`."""
        path, contents = self.place, self._contents
        try:
            _make(path)
        except OSError as error:
            raise DatabaseUnavailable(f"{path}: cannot be used now ({error.strerror}); {_MAY_NOT}") from None
        # Nor do they belong into logs.
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _WAIT_S}, hide_parameters=True)
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "handle_error", self._translate)
        write_only_this_schema(engine, contents.migrations, path)
        try:
            with engine.connect() as connection:
                current = is_current(connection, contents.migrations)
            if not current:
                writing = engine.connect().execution_options(writes=True, migrates=True)
                with migrating, writing as connection, connection.begin():
                    upgrade(connection, contents.migrations, path)
        except DatabaseError as error:
            engine.dispose()
            raise GalleryError(f"{path}: not a database that can be read ({error.orig}); {contents.remedy}") from error
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _translate(self, context: ExceptionContext) -> None:
        """What waiting or the operator can mend is told as that, not as damage."""
        cause = context.original_exception
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # without what an extended code adds
        if code in _MENDED_BY:
            raise DatabaseUnavailable(f"{self.place}: cannot be used now ({cause}); {_MENDED_BY[code]}") from cause

    def empty_log(self) -> None:
        """Bring everything out of the write-ahead log into the database, and empty the log: what was deleted must not
        be read from it. A reader that is at work puts it off."""
        # Without waiting: it keeps writers out all the while it waits for readers.
        with closing(sqlite3.connect(self.place, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def scrub(self) -> None:
        """As `Database.scrub`: neither in free pages nor in the write-ahead log."""
        try:
            with closing(sqlite3.connect(self.place, timeout=_WAIT_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA secure_delete=ON")
                connection.execute("VACUUM")
                connection.execute("PRAGMA busy_timeout=0")  # writers come in between
                give_up = time.monotonic() + _WAIT_S
                while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() > give_up:
                        raise GalleryError(
                            f"{self.place}: in use all the time, so that its log cannot be emptied; run this again"
                        )
                    time.sleep(0.1)
        except sqlite3.Error as error:
            raise GalleryError(f"{self.place}: cannot be rid of what was deleted ({error}); run this again") from None

    def rows(self) -> Iterator[tuple[str, Sequence[object]]]:
        """As `Database.rows`, with SQLite alone, and without changing anything."""
        with closing(sqlite3.connect(f"{self.place.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 its own name
                    yield table, row

    def inconsistencies(self) -> list[str]:
        """What SQLite itself finds wrong. Every index holds its columns once more, and they are compared."""
        with closing(sqlite3.connect(self.place)) as connection:
            connection.text_factory = lambda text: text.decode("utf-8", "replace")  # it quotes what it found
            try:
                found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_SHOWN})")]
                orphans = [
                    f"a row of {row[0]} belongs to nothing" for row in connection.execute("PRAGMA foreign_key_check")
                ]
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter where the error itself quotes
                return [f"{error}; restore it from a backup"]
        return [f"{problem}; restore it from a backup" for problem in found if problem != "ok"] + orphans[:_MOST_SHOWN]

    def changed_definitions(self) -> list[str]:
        """As `Database.changed_definitions`."""
        with tempfile.TemporaryDirectory() as folder:
            fresh = SqliteFile(Path(folder) / self.place.name, self._contents)
            fresh.open().dispose()
            found, wanted = self._definitions(), fresh._definitions()
        changed = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        return [f"the definition of {name} was changed; restore it from a backup" for name in changed]

    def _definitions(self) -> dict[str, str | None]:
        with closing(sqlite3.connect(self.place)) as connection:
            connection.text_factory = lambda text: text.decode("utf-8", "replace")  # one that is none any more differs
            return dict(connection.execute("SELECT type || ' ' || name, sql FROM sqlite_master").fetchall())


def _make(path: Path) -> None:
    make_folder(path.parent)
    # A new file is not for everybody on the machine: its rows are about people, and passwords are among them. One that
    # is there is not opened: closing it would give up the locks that SQLite has on it in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o660))


def _configure(connection: Any, _record: object) -> None:
    # SQLAlchemy shall say when a transaction begins, not sqlite3's module, which leaves DDL outside.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # What is erased is overwritten, not only unlinked.
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    # Of a new file that several open at once, only one can change this, and SQLite lets the others fail unwaited.
    give_up = time.monotonic() + _WAIT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    # A reader that turns writer halfway can fail at once, without waiting: writers say so from the start.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
