"""A database in a schema of a PostgreSQL server.

The schema's comment holds the id that the folder's `marker` has. All text in it is compared by code points, whatever
the server's locale is, so that the order of rows is the same everywhere and no update of a locale damages an index.
"""

from __future__ import annotations

import re
import time
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from gallery_service.databases.database import Contents, Database
from gallery_service.databases.marker import Marker, new_marker, read_marker, write_marker
from gallery_service.databases.migration import is_current, migrating, upgrade, write_only_this_schema
from gallery_service.databases.postgres_definitions import definitions
from gallery_service.databases.postgres_server import VARIABLE, postgres_engine, server_name
from gallery_service.errors import BadQuery, GalleryError

_SCRUB_S = 30.0
_COMMENT = "calr "
_TABLES = text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename")
_TEXTS = text(
    "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() "
    "AND table_name <> 'alembic_version' AND data_type = 'character varying' AND collation_name IS DISTINCT FROM 'C'"
)


class PostgresSchema(Database):
    """A schema of a PostgreSQL server.

    Args:
        url: of the server, from `gallery_service.databases.postgres_server.server_url`.
        schema: its name, of small letters, digits, '-' and '_'.
        marker: the file that ties a folder to it.
        contents: what it is for.
    """

    def __init__(self, url: URL, schema: str, marker: Path, contents: Contents) -> None:
        self.place: str = f"{VARIABLE}, schema {schema} at {server_name(url)}"
        self._url = url
        self._schema = schema
        self._marker = marker
        self._contents = contents

    def identity(self) -> Hashable | None:
        """As `Database.identity`: tables that were made anew, or put back from a backup, are others."""
        with self._engine.connect() as connection:
            return self._identity(connection)

    def open(self) -> Engine:
        """As `Database.open`."""
        migrations = self._contents.migrations
        try:
            with self._engine.connect() as connection:
                there = self._identity(connection) is not None
                current = there and is_current(connection, migrations)
            if not current:
                writing = self._engine.connect().execution_options(writes=True, migrates=True)
                with migrating, writing as connection, connection.begin():
                    self._claim(connection)
                    upgrade(connection, migrations, self.place)
                    _prepare_texts(connection)
            marker = read_marker(self._marker)
            if marker is not None and not marker.made:  # also where a crash has left it so
                write_marker(self._marker, Marker(marker.id, made=True))
        except DBAPIError as error:
            self.close()
            raise GalleryError(f"{self.place}: cannot be opened ({error.orig}); {self._contents.remedy}") from error
        except BaseException:
            self.close()
            raise
        return self._engine

    def close(self) -> None:
        """As `Database.close`."""
        self._engine.dispose()

    def scrub(self) -> None:
        """As `Database.scrub`: every table is written anew. Rows that a transaction may still read stay, so that those
        of others in the same database are waited for."""
        kept: list[int] = []

        def note(message: Any) -> None:
            # "3 dead row versions cannot be removed yet", in the server's language.
            number = re.match(r"\D*(\d+)", message.message_detail or "")
            kept.append(int(number[1]) if number else 0)

        give_up = time.monotonic() + _SCRUB_S
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.add_notice_handler(note)
            try:
                while True:
                    kept.clear()
                    for table in connection.scalars(_TABLES).all():
                        connection.exec_driver_sql(f'VACUUM (FULL, VERBOSE) "{table}"')
                    if not any(kept):
                        return
                    if time.monotonic() > give_up:
                        raise GalleryError(
                            f"{self.place}: what was deleted is still kept for a transaction that began before; end it "
                            "(the server's pg_stat_activity shows it) and run this again"
                        )
                    time.sleep(0.5)
            finally:
                driver.remove_notice_handler(note)

    @property
    def beyond_reach(self) -> Sequence[str]:
        """As `Database.beyond_reach`."""
        return (
            f"the database at {server_name(self._url)}: rows were removed from its tables; the server's write-ahead "
            "log and its archive, replicas, backups and snapshots were not looked through",
        )

    def rows(self) -> Iterator[tuple[str, Sequence[object]]]:
        """As `Database.rows`."""
        with self._engine.connect() as connection:
            for table in connection.scalars(_TABLES).all():
                every = text(f'SELECT * FROM "{table}"').execution_options(yield_per=1000)  # noqa: S608 its own name
                for row in connection.execute(every):
                    yield table, row

    def inconsistencies(self) -> list[str]:
        """What the server finds wrong while it reads everything; it compares the checksums of its pages, if it keeps
        any."""
        try:
            for _ in self.rows():
                pass
        except (DBAPIError, BadQuery) as error:
            reason = getattr(error, "orig", None) or error
            return [f"{' '.join(str(reason).split())}; restore it from a backup"]
        return []

    def changed_definitions(self) -> list[str]:
        """As `Database.changed_definitions`: the same is made beside it, compared, and never committed."""
        fresh = f"{self._schema}_as_made"
        writing = self._engine.connect().execution_options(writes=True, migrates=True)
        with migrating, writing as connection, connection.begin() as transaction:
            found = definitions(connection, self._schema)
            connection.exec_driver_sql(f'CREATE SCHEMA "{fresh}"')
            connection.exec_driver_sql(f'SET LOCAL search_path TO "{fresh}"')
            upgrade(connection, self._contents.migrations, self.place)
            _prepare_texts(connection)
            wanted = definitions(connection, fresh)
            transaction.rollback()
        changed = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        return [f"the definition of {name} was changed; restore it from a backup" for name in changed]

    def unchecked(self) -> list[str]:
        """As `Database.unchecked`."""
        with self._engine.connect() as connection:
            if connection.execute(text("SHOW data_checksums")).scalar() == "on":
                return []
        return [
            f"{self.place}: the server keeps no checksums of its pages (data_checksums is off), so that a flipped bit "
            "shows in rows only, not in indexes or in what says which rows are there; pg_checksums turns them on"
        ]

    @cached_property
    def _engine(self) -> Engine:
        engine = postgres_engine(self._url, self._schema)
        write_only_this_schema(engine, self._contents.migrations, self.place)
        return engine

    def _identity(self, connection: Connection) -> Hashable | None:
        found = connection.execute(
            text("SELECT CAST(to_regclass(:table) AS oid), obj_description(to_regnamespace(:schema), 'pg_namespace')"),
            {"table": f'"{self._schema}".alembic_version', "schema": f'"{self._schema}"'},
        ).one()
        table, comment = found
        marker = read_marker(self._marker)
        if table is None:
            if marker is not None and marker.made:
                raise GalleryError(
                    f"{self.place}: is not there, although {self._marker} says that it was made; is this the right "
                    f"database? Restore it from a backup, or delete {self._marker} to begin anew"
                )
            return None
        if marker is None or comment != _COMMENT + marker.id:
            owner = (comment or "").removeprefix(_COMMENT)
            way_out = f"write {owner} into {self._marker}" if owner else "restore the schema with its comment"
            raise GalleryError(
                f"{self.place}: belongs to another folder than {self._marker.parent}; give one of the two sites "
                f"another name in site.yaml, or use another database. If it does belong here, {way_out}"
            )
        return int(table)

    def _claim(self, connection: Connection) -> None:
        """Make the schema where it is missing. Everybody else waits at the lock that the transaction holds."""
        marker = read_marker(self._marker)
        if self._identity(connection) is None:
            marker = marker or new_marker()
            write_marker(self._marker, marker)
            connection.exec_driver_sql(f'CREATE SCHEMA "{self._schema}"')
            connection.exec_driver_sql(f"COMMENT ON SCHEMA \"{self._schema}\" IS '{_COMMENT}{marker.id}'")


def _prepare_texts(connection: Connection) -> None:
    """Compare text by code points, and keep no samples of it in the server's statistics: who is erased would stay
    there."""
    for table, column in connection.execute(_TEXTS).all():
        connection.exec_driver_sql(
            f'ALTER TABLE "{table}" ALTER "{column}" TYPE varchar COLLATE "C", ALTER "{column}" SET STATISTICS 0'
        )
