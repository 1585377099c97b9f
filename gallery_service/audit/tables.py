"""The table of an audit log; gallery.sqlite has one for its site, service.sqlite one for users and sign-ins."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, declared_attr, mapped_column


class AuditColumns:
    """An entry as `gallery_service.audit.chain.Entry` has it, and its hash. Triggers refuse to change or delete one."""

    __tablename__ = "audit"

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Index, ...]:  # noqa: N805 SQLAlchemy calls it on the class
        return (Index("audit_by_who", "who"), Index("audit_by_action", "action"), Index("audit_by_time", "at"))

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger)
    who: Mapped[str]
    via: Mapped[str]
    action: Mapped[str]
    purpose: Mapped[str | None]
    details: Mapped[str]
    previous: Mapped[str]
    hash: Mapped[str]
