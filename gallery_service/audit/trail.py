"""Writing and reading an audit log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from gallery_service.audit.chain import FIRST_PREVIOUS, Entry, Verdict, canonical_json, verify
from gallery_service.audit.tables import AuditColumns
from gallery_service.caller import Caller

_READ_AT_ONCE = 1000


@dataclass(frozen=True)
class EntryFilter:
    """Which entries somebody wants to see.

    Attributes:
        who, action: exactly these; `action` also finds what begins with it and a dot. None: all.
        since, until: UTC microseconds, ends included; None: no bound.
    """

    who: str | None = None
    action: str | None = None
    since: int | None = None
    until: int | None = None


class AuditTrail:
    """The audit log of one database.

    Args:
        engine: from `gallery_service.databases.database.Database.open`.
        row: the database's audit table.
    """

    def __init__(self, engine: Engine, row: type[AuditColumns]) -> None:
        self._engine = engine
        self._row = row

    def append(
        self,
        session: Session,
        caller: Caller,
        action: str,
        details: Mapping[str, Any],
        purpose: str | None = None,
    ) -> None:
        """Write an entry, in the transaction that does what it is about: both happen, or neither.

        Args:
            session: of a transaction that was begun for writing, so that no two append at once.
            caller: who does it.
            action: what, a short dotted name.
            details: what JSON can hold.
            purpose: why, or which case.
        """
        row = self._row
        last = session.execute(select(row.id, row.hash).order_by(row.id.desc()).limit(1)).first()
        number, previous = (1, FIRST_PREVIOUS) if last is None else (last.id + 1, last.hash)
        entry = Entry(
            id=number,
            at=time.time_ns() // 1000,
            who=caller.name,
            via=caller.via,
            action=action,
            purpose=purpose,
            details=canonical_json(dict(details)),
            previous=previous,
        )
        session.execute(insert(row).values(**asdict(entry), hash=entry.hash()))

    def newest(self, wanted: EntryFilter, before: int | None, limit: int) -> list[tuple[Entry, str]]:
        """Entries with their hashes, the newest first.

        Args:
            wanted: which ones.
            before: only those with a lower id; None: all.
            limit: at most this many.
        """
        row = self._row
        statement = self._columns().order_by(row.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(row.id < before)
        if wanted.who is not None:
            statement = statement.where(row.who == wanted.who)
        if wanted.action is not None:
            statement = statement.where(
                (row.action == wanted.action) | row.action.startswith(f"{wanted.action}.", autoescape=True)
            )
        if wanted.since is not None:
            statement = statement.where(row.at >= wanted.since)
        if wanted.until is not None:
            statement = statement.where(row.at <= wanted.until)
        with Session(self._engine) as session:
            return [(Entry(*found[:-1]), found[-1]) for found in session.execute(statement)]

    def head(self) -> tuple[int, str]:
        """How many entries there are, and the hash of the last one."""
        with Session(self._engine) as session:
            last = session.execute(select(self._row.id, self._row.hash).order_by(self._row.id.desc()).limit(1)).first()
            return (0, FIRST_PREVIOUS) if last is None else (last.id, last.hash)

    def verify(self, head: str | None = None) -> Verdict:
        """Check the whole log; see `gallery_service.audit.chain.verify`."""
        return verify(self._all(), head)

    def _all(self) -> Iterator[tuple[Entry, str]]:
        with Session(self._engine) as session:
            statement = self._columns().order_by(self._row.id).execution_options(yield_per=_READ_AT_ONCE)
            for found in session.execute(statement):
                yield Entry(*found[:-1]), found[-1]

    def _columns(self) -> Any:
        row = self._row
        return select(row.id, row.at, row.who, row.via, row.action, row.purpose, row.details, row.previous, row.hash)
