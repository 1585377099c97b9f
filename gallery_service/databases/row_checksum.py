"""A checksum in every row that nothing else says again, so that a flipped bit in it shows.

It is over all other columns, and whoever writes a row writes it without knowing: a new row gets it from the column's
default, a changed one before its session sends it. An UPDATE statement does not know the rows it meets, so SQLAlchemy
refuses to send one that is not a session's own: change rows as objects.

A row that was damaged stays so: its checksum is not made to fit when something else in it is changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Row, Select, Table, event, func, select, type_coerce
from sqlalchemy import column as column_named
from sqlalchemy import table as table_named
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Mapped, Mapper, declared_attr, mapped_column
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.types import NullType

_NAME = "checksum"


def row_checksum(values: Mapping[str, object]) -> str:
    """The checksum of a row, hexadecimal.

    Nulls are left out, so that a column that is added later, and may be null, changes none. Never to be written
    otherwise: the rows of every database have it.

    Args:
        values: of the other columns as the database gives them back, by name.
    """
    there = {name: _plain(value) for name, value in values.items() if value is not None and name != _NAME}
    form = json.dumps(there, sort_keys=True, separators=(",", ":"), default=lambda blob: [blob.hex()])
    return blake2b(form.encode("ascii"), digest_size=16).hexdigest()


class Checksummed:
    """A table whose rows have one. Its other columns need values that Python knows, not the database alone."""

    @declared_attr
    def checksum(cls) -> Mapped[str | None]:  # noqa: N805 SQLAlchemy calls it on the class
        """`row_checksum` of the others; null only in a row that something else wrote."""

        def of_a_new_row(context: DefaultExecutionContext) -> str:
            given = context.get_current_parameters()  # type: ignore[no-untyped-call]
            return row_checksum(_as_stored(_table_of(cls), given))

        def refuse(_context: DefaultExecutionContext) -> str:
            raise RuntimeError(
                f"an UPDATE of {_table_of(cls)} would leave its rows with wrong checksums; change them as objects of "
                "a session"
            )

        # The last column, since defaults are made in their order, and this one looks at the others.
        return mapped_column(default=of_a_new_row, onupdate=refuse, sort_order=1)


def next_number(table: str, name: str) -> Callable[[DefaultExecutionContext], int]:
    """The default of a key that counts. A database's own counter says the number only when the row is written, too
    late for its checksum. Writers wait for each other, so nobody else takes the same; rows are added one by one. The
    number of the last row is given again when that is deleted.

    Args:
        table, name: of the column.
    """
    following: Select[Any] = select(func.coalesce(func.max(column_named(name)), 0) + 1).select_from(table_named(table))
    return lambda context: int(context.connection.execute(following).scalar_one())


def checked_rows(engine: Engine) -> Iterator[tuple[str, bool]]:
    """Every row that has a checksum, by what people can call it, and whether it is as it was written."""
    with engine.connect().execution_options(yield_per=100) as connection:
        for table in _tables(connection):
            for row in connection.execute(_stored(table)):
                key = ", ".join(f"{column.name} {row._mapping[column.name]!r}"[:80] for column in table.primary_key)
                yield f"the row of {table.name} with {key}", _is_whole(row)


def read_any_text(engine: Engine) -> None:
    """Let an engine hand out texts that are none any more, so that their rows can be named like other damaged ones. A
    server does not hand them out."""

    def on_connect(connection: Any, _record: object) -> None:
        connection.text_factory = _lenient

    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", on_connect)
        engine.dispose()  # of connections that were made before


def give_checksums(connection: Connection, *tables: str) -> None:
    """For a migration that has added the columns, or changed others: what is in the rows now counts as right, but for a
    row with a text that is none any more. That gets no checksum and so will be named as damaged.

    Args:
        connection: of the migration.
        tables: by name.
    """
    with _any_text(connection):
        for table in _tables(connection):
            if table.name in tables:
                sums = []
                for row in connection.execute(_stored(table), execution_options={"yield_per": 100}):
                    if all(_is_text(value) for value in row if isinstance(value, str)):
                        key = [column == row._mapping[column.name] for column in table.primary_key]
                        sums.append((key, row_checksum(row._asdict())))
                for key, checksum in sums:
                    connection.execute(table.update().where(*key).values({_NAME: checksum}))


@event.listens_for(Checksummed, "before_update", propagate=True)
def _follow_the_change(mapper: Mapper[Any], connection: Connection, row: Checksummed) -> None:
    table = _table_of(row)
    key = zip(table.primary_key, mapper.primary_key_from_instance(row), strict=True)
    stored = _stored(table).where(*(column == value for column, value in key))
    try:
        before = connection.execute(stored).one()
    except DatabaseError:  # holds a text that is none any more
        before = None
    if before is not None and _is_whole(before):
        loaded = {column.name: vars(row)[column.name] for column in table.columns if column.name in vars(row)}
        row.checksum = row_checksum(_as_stored(table, {**before._mapping, **loaded}))
    else:
        flag_modified(row, _NAME)  # sent as it is


@contextmanager
def _any_text(connection: Connection) -> Iterator[None]:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.text_factory = _lenient
    try:
        yield
    finally:
        if connection.dialect.name == "sqlite":
            driver.text_factory = str


def _lenient(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _table_of(row: Any) -> Table:
    table: Table = row.__table__
    return table


def _tables(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if _NAME in table.columns]


def _stored(table: Table) -> Select[Any]:
    """What the driver reads: a damaged value need not be of its column's type, and is not to be made one."""
    columns: list[Any] = [type_coerce(column, NullType()).label(column.name) for column in table.columns]
    return select(*columns)


def _is_whole(stored: Row[Any]) -> bool:
    return bool(stored._mapping[_NAME] == row_checksum(stored._asdict()))


def _as_stored(table: Table, values: Mapping[str, Any]) -> dict[str, object]:
    """What a database will give back for these values, each of its column's type."""
    others = [column for column in table.columns if column.name != _NAME]
    missing = [column.name for column in others if not column.nullable and values.get(column.name) is None]
    if missing:
        raise RuntimeError(f"a new row of {table.name} needs a value for {missing[0]} that Python knows")
    given = {column.name: (column.type.python_type, values.get(column.name)) for column in others}
    return {name: None if value is None else kind(value) for name, (kind, value) in given.items()}


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return int(value)  # SQLite has only numbers
    if isinstance(value, float):
        return value + 0.0  # nor does it have a zero below zero
    return value
