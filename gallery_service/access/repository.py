"""Every query on the database of users, and nothing else. What changes something writes its entry of the audit log
with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from gallery_service.access.tables import AccessAuditRow, KeyRow, RightRow, SessionRow, UserRow
from gallery_service.audit.trail import AuditTrail
from gallery_service.caller import Caller
from gallery_service.databases.database import Database


@dataclass(frozen=True)
class User:
    """A user and what they may see: pairs of site and camera, each `*` for all."""

    name: str
    role: str
    created_at: int
    disabled_at: int | None
    rights: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Key:
    """An API key, without what opens anything."""

    key_id: str
    user: str
    name: str
    created_at: int
    expires_at: int
    revoked_at: int | None


@dataclass(frozen=True)
class OpenSession:
    """A signed-in browser."""

    sha256: str
    user: str
    used_at: int
    expires_at: int


class AccessRepository:
    """Users, rights, keys and sessions.

    Args:
        database: of users; made when it is missing.

    Raises:
        GalleryError: it cannot be read.
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.open()
        self.audit = AuditTrail(self._engine, AccessAuditRow)

    def close(self) -> None:
        """Close the database's connections."""
        self._engine.dispose()

    # Reading.

    def any_user(self) -> bool:
        """Whether there is a user, disabled or not."""
        with Session(self._engine) as session:
            return session.execute(select(UserRow.name).limit(1)).first() is not None

    def user(self, name: str) -> User | None:
        """A user by name."""
        return next(iter(self._users(name)), None)

    def users(self) -> list[User]:
        """All users, by name."""
        return self._users(None)

    def password(self, name: str) -> str | None:
        """What is kept of a user's password, None when there is no such user who may sign in."""
        with Session(self._engine) as session:
            return session.scalars(
                select(UserRow.password).where(UserRow.name == name, UserRow.disabled_at.is_(None))
            ).first()

    def key(self, sha256: str) -> Key | None:
        """A key by its hash, also one that opens nothing any more."""
        return next(iter(self._keys(KeyRow.sha256 == sha256)), None)

    def keys(self, key_id: str | None = None) -> list[Key]:
        """All keys, or the one of that id, by user and time."""
        return self._keys(*([] if key_id is None else [KeyRow.key_id == key_id]))

    def session(self, sha256: str) -> OpenSession | None:
        """A session by the hash of its token."""
        with Session(self._engine) as session:
            columns = (SessionRow.sha256, SessionRow.user, SessionRow.used_at, SessionRow.expires_at)
            found = session.execute(select(*columns).where(SessionRow.sha256 == sha256)).first()
            return None if found is None else OpenSession(*found)

    # Changing. `by` is who does it.

    def add_user(
        self, by: Caller, name: str, role: str, password: str, rights: Iterable[tuple[str, str]], at: int
    ) -> bool:
        """Add a user; False when there is one of that name."""
        with self._writing() as session:
            if session.get(UserRow, name) is not None:
                return False
            session.execute(insert(UserRow).values(name=name, role=role, password=password, created_at=at))
            granted = sorted(set(rights))
            self._add_rights(session, name, granted)
            self.audit.append(session, by, "user.added", {"user": name, "role": role, "rights": granted})
            return True

    def change_user(self, by: Caller, name: str, action: str, **columns: Any) -> None:
        """Set columns of `UserRow`. Whoever is signed in as the user has to sign in again."""
        with self._writing() as session:
            self._change(session, by, name, action, columns)

    def set_user(
        self, by: Caller, name: str, role: str, rights: Iterable[tuple[str, str]], password: str | None
    ) -> None:
        """Set role, rights and, where one is given, the password: all of it or nothing."""
        with self._writing() as session:
            rows = session.execute(select(RightRow.site, RightRow.camera).where(RightRow.user == name))
            held, wanted = {(site, camera) for site, camera in rows}, set(rights)
            if wanted - held:
                self._grant(session, by, name, wanted - held)
            if held - wanted:
                self._revoke(session, by, name, held - wanted)
            if session.get_one(UserRow, name).role != role:
                self._change(session, by, name, "user.role", {"role": role})
            if password is not None:
                self._change(session, by, name, "user.password", {"password": password})

    def keep_password(self, name: str, password: str) -> None:
        """The same password, kept at another cost."""
        with self._writing() as session:
            session.get_one(UserRow, name).password = password

    def grant(self, by: Caller, name: str, rights: Iterable[tuple[str, str]]) -> None:
        """Let a user see more."""
        with self._writing() as session:
            self._grant(session, by, name, rights)

    def revoke(self, by: Caller, name: str, rights: Iterable[tuple[str, str]]) -> None:
        """Let a user see less."""
        with self._writing() as session:
            self._revoke(session, by, name, rights)

    def add_key(self, by: Caller, key: Key, sha256: str) -> None:
        """Add a key."""
        with self._writing() as session:
            session.execute(insert(KeyRow).values(**vars(key), sha256=sha256))
            details = {"key_id": key.key_id, "user": key.user, "name": key.name, "expires_at": key.expires_at}
            self.audit.append(session, by, "key.added", details)

    def revoke_key(self, by: Caller, key: Key, at: int) -> None:
        """Let a key open nothing any more."""
        with self._writing() as session:
            session.get_one(KeyRow, key.key_id).revoked_at = at
            details = {"key_id": key.key_id, "user": key.user, "name": key.name}
            self.audit.append(session, by, "key.revoked", details)

    def sign_in(self, who: Caller, opened: OpenSession, address: str) -> None:
        """Begin a session; those that have ended go."""
        with self._writing() as session:
            session.execute(delete(SessionRow).where(SessionRow.expires_at <= opened.used_at))
            session.execute(insert(SessionRow).values(**vars(opened), created_at=opened.used_at))
            self.audit.append(session, who, "sign-in", {"address": address})

    def touch(self, sha256: str, at: int) -> None:
        """Note that a session is in use."""
        with self._writing() as session:
            opened = session.get(SessionRow, sha256)
            if opened is not None:  # it may have ended meanwhile
                opened.used_at = at

    def sign_out(self, who: Caller, sha256: str) -> None:
        """End a session."""
        with self._writing() as session:
            session.execute(delete(SessionRow).where(SessionRow.sha256 == sha256))
            self.audit.append(session, who, "sign-out", {})

    def record(self, who: Caller, action: str, details: Mapping[str, Any]) -> None:
        """Write an entry that is about no change."""
        with self._writing() as session:
            self.audit.append(session, who, action, details)

    def _change(self, session: Session, by: Caller, name: str, action: str, columns: Mapping[str, Any]) -> None:
        user = session.get_one(UserRow, name)
        for column, value in columns.items():
            setattr(user, column, value)
        session.execute(delete(SessionRow).where(SessionRow.user == name))
        told = {column: value for column, value in columns.items() if column != "password"}
        self.audit.append(session, by, action, {"user": name, **told})

    def _grant(self, session: Session, by: Caller, name: str, rights: Iterable[tuple[str, str]]) -> None:
        granted = sorted(set(rights))
        self._add_rights(session, name, granted)
        self.audit.append(session, by, "user.granted", {"user": name, "rights": granted})

    def _revoke(self, session: Session, by: Caller, name: str, rights: Iterable[tuple[str, str]]) -> None:
        revoked = sorted(set(rights))
        for site, camera in revoked:
            session.execute(
                delete(RightRow).where(RightRow.user == name, RightRow.site == site, RightRow.camera == camera)
            )
        self.audit.append(session, by, "user.revoked", {"user": name, "rights": revoked})

    def _add_rights(self, session: Session, name: str, rights: Iterable[tuple[str, str]]) -> None:
        for site, camera in rights:
            session.merge(RightRow(user=name, site=site, camera=camera))

    def _users(self, name: str | None) -> list[User]:
        with Session(self._engine) as session:
            which = [] if name is None else [UserRow.name == name]
            columns = (UserRow.name, UserRow.role, UserRow.created_at, UserRow.disabled_at)
            found = session.execute(select(*columns).where(*which).order_by(UserRow.name)).all()
            rights: dict[str, list[tuple[str, str]]] = {row.name: [] for row in found}
            statement = select(RightRow.user, RightRow.site, RightRow.camera).where(RightRow.user.in_(rights))
            for user, site, camera in session.execute(statement.order_by(RightRow.site, RightRow.camera)):
                rights[user].append((site, camera))
            return [User(*row, tuple(rights[row.name])) for row in found]

    def _keys(self, *which: Any) -> list[Key]:
        columns = (KeyRow.key_id, KeyRow.user, KeyRow.name, KeyRow.created_at, KeyRow.expires_at, KeyRow.revoked_at)
        with Session(self._engine) as session:
            found = session.execute(select(*columns).where(*which).order_by(KeyRow.user, KeyRow.created_at))
            return [Key(*row) for row in found]

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._engine.connect().execution_options(writes=True) as connection, Session(connection) as session:
            yield session
            session.commit()
