"""The tables of service.sqlite: who may use the service, for what, and what was done about that.

Times are UTC microseconds. Nothing here lets anybody in who reads it: of passwords, keys and sessions only hashes are
kept.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gallery_service.audit.tables import AuditColumns
from gallery_service.databases.row_checksum import Checksummed


class AccessBase(DeclarativeBase):
    """What Alembic compares service.sqlite with."""


class UserRow(Checksummed, AccessBase):
    """Somebody who may sign in. Users are disabled, never deleted: the audit log names them.

    Attributes:
        name: in lower case.
        role: a `gallery_service.caller.Role`.
        password: its Argon2id hash, in the PHC string format.
        disabled_at: since when they may do nothing.
    """

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    password: Mapped[str]
    created_at: Mapped[int] = mapped_column(BigInteger)
    disabled_at: Mapped[int | None] = mapped_column(BigInteger)


class RightRow(Checksummed, AccessBase):
    """A camera that a user may see; `*` as the camera: all of the site; as the site, too: everything."""

    __tablename__ = "rights"

    user: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    camera: Mapped[str] = mapped_column(primary_key=True)


class KeyRow(Checksummed, AccessBase):
    """An API key. It acts as its user.

    Attributes:
        key_id: what people call it by.
        sha256: of the key itself, which is long and random, so that a fast hash is enough.
        name: what it is for.
        revoked_at, expires_at: since when, from when on it opens nothing.
    """

    __tablename__ = "keys"
    __table_args__ = (Index("keys_by_user", "user"),)

    key_id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name"))
    name: Mapped[str]
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)


class SessionRow(Checksummed, AccessBase):
    """A browser that is signed in.

    Attributes:
        sha256: of the token in its cookie.
        used_at: its last request, to the minute.
        expires_at: when it ends even in use.
    """

    __tablename__ = "sessions"
    __table_args__ = (Index("sessions_by_user", "user"),)

    sha256: Mapped[str] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name"))
    created_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class AccessAuditRow(AuditColumns, AccessBase):
    """What was done to users, keys and rights, who signed in and who was refused."""
