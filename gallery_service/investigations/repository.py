"""Every query on the tables of investigations, narrowed by who asks.

An investigation is seen by whoever began it, by those it is shared with, and by admins. What it holds of a camera that
the caller may not see is not there: neither to be read nor to be changed or searched with.

Every change goes into the audit log in its own transaction, by ids: titles and notes can be about people, and the log
forgets nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Engine, delete, exists, func, insert, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from gallery_service.audit.trail import AuditTrail
from gallery_service.caller import Caller, Role
from gallery_service.erasure.erased_tracklets import ErasedTracklets
from gallery_service.errors import Conflict, NotFound
from gallery_service.investigations.tables import HitRow, InvestigationRow, QueryPictureRow, QueryRow, ReaderRow
from gallery_service.storage.repository import StoredTracklet

MAX_QUERIES = 500
MAX_HITS = 5000


@dataclass(frozen=True)
class _Named:
    """As much of a tracklet as tells whether it was erased."""

    tracklet_id: str
    camera_id: str
    recording_sha256: str
    start_pts_s: float
    end_pts_s: float


@dataclass(frozen=True)
class Case:
    """An investigation, and how much of it the caller sees.

    Attributes:
        row: its own columns.
        shared_with: names, sorted.
        queries: how many.
        decisions: how many hits by decision.
    """

    row: InvestigationRow
    shared_with: list[str]
    queries: int
    decisions: dict[str, int] = field(default_factory=dict)

    @property
    def revision(self) -> str:
        """Another one when anything that `InvestigationRepository.change` changes is."""
        content = [self.row.title, self.row.purpose, self.row.notes, self.row.status, self.shared_with]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


class InvestigationRepository:
    """The investigations of one site as one caller sees them.

    Args:
        engine: of the site's gallery.sqlite.
        caller: who asks.
        site: its name, for the caller's rights.
        trail: the site's audit log.
        erased: who was erased at the site.
    """

    def __init__(self, engine: Engine, caller: Caller, site: str, trail: AuditTrail, erased: ErasedTracklets) -> None:
        self._engine = engine
        self._trail = trail
        self._erased = erased
        self._caller = caller
        self._cameras = caller.cameras(site)

    # Whole investigations.

    def add(self, investigation: dict[str, Any]) -> bool:
        """Add an investigation, the columns of `InvestigationRow` but for `number`; False when there is one of that id.

        Raises:
            NotFound: there is one that the caller may not see.
        """
        with self._writing() as session:
            wanted = InvestigationRow.investigation_id == investigation["investigation_id"]
            if session.execute(select(exists().where(wanted))).scalar_one():
                self._number(session, investigation["investigation_id"])
                return False
            session.execute(insert(InvestigationRow).values(**investigation))
            self._record(session, "investigation.created", investigation["investigation_id"], investigation["purpose"])
            return True

    def get(self, investigation_id: str) -> Case:
        """One investigation.

        Raises:
            NotFound: there is none of that id, or the caller may not see it.
        """
        with self._reading() as session:
            number = self._number(session, investigation_id)
            return self._cases(session, [session.get_one(InvestigationRow, number)])[0]

    def page(self, status: str | None, before: int | None, limit: int) -> list[Case]:
        """Investigations that the caller may see, the newest first.

        Args:
            status: only these; None: all.
            before: only those whose number is lower; None: from the newest.
            limit: at most this many.
        """
        conditions = [self._may_see()]
        if status is not None:
            conditions.append(InvestigationRow.status == status)
        if before is not None:
            conditions.append(InvestigationRow.number < before)
        with self._reading() as session:
            newest_first = select(InvestigationRow).where(*conditions).order_by(InvestigationRow.number.desc())
            return self._cases(session, list(session.scalars(newest_first.limit(limit))))

    def change(
        self,
        investigation_id: str,
        at: int,
        columns: dict[str, Any],
        shared_with: Sequence[str] | None,
        revision: str | None,
    ) -> None:
        """Change columns of an investigation, and whom it is shared with unless that is None.

        Raises:
            NotFound: as `get`.
            Conflict: its revision is another one; None: it may be any.
        """
        with self._writing() as session:
            row = self._touch(session, investigation_id, at)
            if revision is not None and revision != self._cases(session, [row])[0].revision:
                raise Conflict(
                    "nothing was saved, since somebody changed this investigation meanwhile; load it again, and then "
                    "change it"
                )
            number = row.number
            details: dict[str, Any] = {"changed": sorted(columns)}
            if "status" in columns:
                details["status"] = columns["status"]
            if shared_with is not None:
                details["shared_with"] = sorted(set(shared_with))
            self._record(session, "investigation.changed", investigation_id, row.purpose, **details)
            for name, value in columns.items():
                setattr(row, name, value)
            if shared_with is not None:
                session.execute(delete(ReaderRow).where(ReaderRow.investigation == number))
                for name in sorted(set(shared_with)):
                    session.execute(insert(ReaderRow).values(investigation=number, name=name))

    def remove(self, investigation_id: str) -> None:
        """Delete an investigation with all it holds, also of cameras that the caller may not see.

        Raises:
            NotFound: as `get`.
        """
        with self._writing() as session:
            number = self._number(session, investigation_id)
            purpose = session.get_one(InvestigationRow, number).purpose
            session.execute(delete(InvestigationRow).where(InvestigationRow.number == number))
            self._record(session, "investigation.deleted", investigation_id, purpose)

    # Queries.

    def queries(self, investigation_id: str) -> list[tuple[QueryRow, list[int]]]:
        """What was searched for, oldest first, each with the numbers of its kept pictures.

        Raises:
            NotFound: as `get`.
        """
        with self._reading() as session:
            number = self._number(session, investigation_id)
            of_this = (QueryRow.investigation == number, self._seen_or_none(QueryRow.camera_id))
            rows = list(
                session.scalars(select(QueryRow).where(*of_this).order_by(QueryRow.asked_at, QueryRow.query_id))
            )
            kept: dict[str, list[int]] = {}
            columns = (QueryPictureRow.query_id, QueryPictureRow.number)
            pictures = select(*columns).where(QueryPictureRow.investigation == number)
            for query_id, picture in session.execute(pictures.order_by(*columns)):
                kept.setdefault(query_id, []).append(picture)
            return [(row, kept.get(row.query_id, [])) for row in rows]

    def add_query(self, investigation_id: str, at: int, query: dict[str, Any], pictures: Sequence[bytes]) -> None:
        """Add a query, the columns of `QueryRow` but for `investigation`, and pictures of it to keep (JPEG). One that
        is there already stays as it is, but for pictures that it lacks.

        Raises:
            NotFound: as `get`; or the tracklet that it started from was erased.
            Conflict: the investigation is closed, or full.
        """
        with self._writing() as session:
            row = self._touch(session, investigation_id, at, to_work=True)
            self._refuse_erased(query)
            number = row.number
            key = (QueryRow.investigation == number, QueryRow.query_id == query["query_id"])
            if not session.execute(select(exists().where(*key))).scalar_one():
                counted = select(func.count()).select_from(QueryRow).where(QueryRow.investigation == number)
                if session.execute(counted).scalar_one() >= MAX_QUERIES:
                    raise Conflict(f"this investigation has {MAX_QUERIES} queries; remove some, or begin another one")
                session.execute(insert(QueryRow).values(investigation=number, **query))
            of_query = (QueryPictureRow.investigation == number, QueryPictureRow.query_id == query["query_id"])
            if not session.execute(select(exists().where(*of_query))).scalar_one():
                for place, jpeg in enumerate(pictures):
                    columns = {"investigation": number, "query_id": query["query_id"], "number": place, "jpeg": jpeg}
                    session.execute(insert(QueryPictureRow).values(**columns))
            details = {"query_id": query["query_id"], "kept_pictures": len(pictures)}
            self._record(session, "investigation.query_added", investigation_id, row.purpose, **details)

    def remove_query(self, investigation_id: str, query_id: str, at: int) -> None:
        """Remove a query with its pictures; hits that it found stay.

        Raises:
            NotFound: as `get`, or there is no such query.
            Conflict: the investigation is closed.
        """
        with self._writing() as session:
            row = self._touch(session, investigation_id, at, to_work=True)
            wanted = (QueryRow.investigation == row.number, QueryRow.query_id == query_id)
            gone = session.scalars(
                delete(QueryRow).where(*wanted, self._seen_or_none(QueryRow.camera_id)).returning(QueryRow.query_id)
            )
            if gone.first() is None:
                raise NotFound(f"this investigation has no query {query_id[:60]!r}")
            self._record(session, "investigation.query_removed", investigation_id, row.purpose, query_id=query_id)

    def picture(self, investigation_id: str, query_id: str, number: int) -> bytes:
        """A kept picture, JPEG.

        Raises:
            NotFound: as `get`, or it was not kept.
        """
        with self._reading() as session:
            investigation = self._number(session, investigation_id)
            found = session.get(QueryPictureRow, (investigation, query_id, number))
            if found is None:
                raise NotFound("this picture was not kept; query pictures are kept only where that was asked for")
            return found.jpeg

    # Hits.

    def hits(self, investigation_id: str) -> list[HitRow]:
        """What was decided about, the latest decision first.

        Raises:
            NotFound: as `get`.
        """
        with self._reading() as session:
            number = self._number(session, investigation_id)
            of_this = (HitRow.investigation == number, self._seen(HitRow.camera_id))
            return list(
                session.scalars(select(HitRow).where(*of_this).order_by(HitRow.decided_at.desc(), HitRow.hit_id.desc()))
            )

    def put_hit(self, investigation_id: str, at: int, tracklet: dict[str, Any], decision: dict[str, Any]) -> HitRow:
        """Decide about a tracklet, for the first time or again.

        Args:
            investigation_id: of which investigation.
            at: when.
            tracklet: the columns of `HitRow` from `tracklet_id` to `last_seen`; of a camera that the caller may see.
            decision: the columns from `model_version` to `decided_at`. A note that is None leaves that of an earlier
                decision; so does a query, whose score and model stay with it then. The same of the same person again
                changes nothing.

        Raises:
            NotFound: as `get`; or the tracklet was erased.
            Conflict: the investigation is closed, or full.
        """
        same = ("tracklet_id", "start_pts_s", "end_pts_s")
        with self._writing() as session:
            row = self._row(session, investigation_id, to_work=True)
            self._refuse_erased(tracklet)
            of_this = HitRow.investigation == row.number
            known = session.scalars(
                select(HitRow).where(of_this, *(getattr(HitRow, name) == tracklet[name] for name in same))
            ).first()
            if known is None:
                counted = select(func.count()).select_from(HitRow).where(of_this)
                if session.execute(counted).scalar_one() >= MAX_HITS:
                    raise Conflict(f"this investigation has {MAX_HITS} hits; begin another one")
                first = decision | {"note": decision["note"] or ""}
                known = HitRow(investigation=row.number, **tracklet, **first, erased_at=None)
                session.add(known)
            else:
                stays = {"note"} if decision["note"] is None else set()
                if decision["query_id"] is None:
                    stays |= {"model_version", "query_id", "score"}  # a score is of its query in its model
                new = {name: decision[name] for name in decision.keys() - stays}
                if all(getattr(known, name) == value for name, value in new.items() if name != "decided_at"):
                    session.expunge(known)
                    return known
                for name, value in new.items():
                    setattr(known, name, value)
            self._touch(session, investigation_id, at)
            told = ("tracklet_id", "camera_id", "decision", "query_id", "model_version")
            details = {name: getattr(known, name) for name in told}
            self._record(session, "decision", investigation_id, row.purpose, **details)
            session.flush()
            session.refresh(known)
            session.expunge(known)
            return known

    def remove_hits(self, investigation_id: str, at: int, hit_ids: Sequence[int]) -> None:
        """Take hits out again.

        Raises:
            NotFound: as `get`.
            Conflict: the investigation is closed.
        """
        with self._writing() as session:
            row = self._touch(session, investigation_id, at, to_work=True)
            wanted = (HitRow.investigation == row.number, HitRow.hit_id.in_(hit_ids), self._seen(HitRow.camera_id))
            columns = (HitRow.hit_id, HitRow.tracklet_id, HitRow.decision)
            gone = session.execute(delete(HitRow).where(*wanted).returning(*columns)).all()
            for hit_id, tracklet_id, decision in gone:
                details = {"hit_id": hit_id, "tracklet_id": tracklet_id, "decision": decision}
                self._record(session, "decision.removed", investigation_id, row.purpose, **details)

    def names(self, tracklet: StoredTracklet) -> bool:
        """Whether a tracklet is a hit of, or was searched with in, an investigation that the caller may see."""

        def named(row: type[HitRow | QueryRow]) -> ColumnElement[bool]:
            same = (
                row.tracklet_id == tracklet.tracklet_id,
                row.start_pts_s == tracklet.start_pts_s,
                row.end_pts_s == tracklet.end_pts_s,
            )
            return exists().where(row.investigation == InvestigationRow.number, *same)

        with self._reading() as session:
            wanted = select(InvestigationRow.number).where(self._may_see(), or_(named(HitRow), named(QueryRow)))
            return session.scalars(wanted.limit(1)).first() is not None

    def record_export(self, investigation_id: str, tracklet_ids: Sequence[str]) -> None:
        """Write down that what the caller sees of an investigation leaves the service.

        Raises:
            NotFound: as `get`.
        """
        with self._writing() as session:
            purpose = session.get_one(InvestigationRow, self._number(session, investigation_id)).purpose
            self._record(session, "export", investigation_id, purpose, tracklet_ids=list(tracklet_ids))

    # What narrows them.

    def _may_see(self) -> ColumnElement[bool]:
        if self._caller.may(Role.ADMIN):
            return true()
        shared = exists().where(ReaderRow.investigation == InvestigationRow.number, ReaderRow.name == self._caller.name)
        return or_(InvestigationRow.created_by == self._caller.name, shared)

    def _seen(self, camera_id: InstrumentedAttribute[str | None]) -> ColumnElement[bool]:
        # What was erased has no camera any more: only who may see all of them sees that there was something.
        return true() if self._cameras is None else camera_id.in_(self._cameras)

    def _seen_or_none(self, camera_id: InstrumentedAttribute[str | None]) -> ColumnElement[bool]:
        return or_(camera_id.is_(None), self._seen(camera_id))

    def _number(self, session: Session, investigation_id: str) -> int:
        wanted = select(InvestigationRow.number).where(InvestigationRow.investigation_id == investigation_id)
        number = session.scalars(wanted.where(self._may_see())).first()
        if number is None:
            raise NotFound(f"there is no investigation {investigation_id[:60]!r}, or it is not shared with you")
        return number

    def _refuse_erased(self, columns: dict[str, Any]) -> None:
        """Refuse to write a tracklet's columns if it was erased. In the transaction that writes them: an erasure is
        written down first and only then takes out what is there (`scrub_erased`), so either it finds the row or this
        finds the erasure."""
        if columns["tracklet_id"] is None:
            return
        if self._erased.among([_Named(**{name: columns[name] for name in _Named.__annotations__})]):
            raise NotFound(f"tracklet {columns['tracklet_id']} was erased a moment ago")

    def _record(self, session: Session, action: str, investigation_id: str, purpose: str, **details: Any) -> None:
        self._trail.append(session, self._caller, action, {"investigation": investigation_id, **details}, purpose)

    def _row(self, session: Session, investigation_id: str, *, to_work: bool = False) -> InvestigationRow:
        row = session.get_one(InvestigationRow, self._number(session, investigation_id))
        if to_work and row.status != "open":
            raise Conflict("this investigation is closed; open it again to change what it holds")
        return row

    def _touch(self, session: Session, investigation_id: str, at: int, *, to_work: bool = False) -> InvestigationRow:
        row = self._row(session, investigation_id, to_work=to_work)
        row.changed_at = max(at, row.changed_at)
        session.flush()
        return row

    def _cases(self, session: Session, rows: list[InvestigationRow]) -> list[Case]:
        numbers = [row.number for row in rows]
        readers: dict[int, list[str]] = {}
        named = select(ReaderRow).where(ReaderRow.investigation.in_(numbers)).order_by(ReaderRow.name)
        for reader in session.scalars(named):
            readers.setdefault(reader.investigation, []).append(reader.name)
        counted = (
            select(QueryRow.investigation, func.count())
            .where(QueryRow.investigation.in_(numbers), self._seen_or_none(QueryRow.camera_id))
            .group_by(QueryRow.investigation)
        )
        queries = {row[0]: row[1] for row in session.execute(counted)}
        decisions: dict[int, dict[str, int]] = {}
        decided = (
            select(HitRow.investigation, HitRow.decision, func.count())
            .where(HitRow.investigation.in_(numbers), self._seen(HitRow.camera_id))
            .group_by(HitRow.investigation, HitRow.decision)
        )
        for number, decision, count in session.execute(decided):
            decisions.setdefault(number, {})[decision] = count
        return [
            Case(row, readers.get(row.number, []), queries.get(row.number, 0), decisions.get(row.number, {}))
            for row in rows
        ]

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session:
            yield session
            session.expunge_all()

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._engine.connect().execution_options(writes=True) as connection, Session(connection) as session:
            yield session
            session.commit()
