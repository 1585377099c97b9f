"""The tables of investigations in gallery.sqlite. They name tracklets but do not hang on them: an investigation
outlives every index run. Times are integers, UTC microseconds."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from gallery_service.databases.row_checksum import Checksummed, next_number
from gallery_service.storage.tables import Base


class InvestigationRow(Checksummed, Base):
    """One investigation; `number` orders them."""

    __tablename__ = "investigations"

    number: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, default=next_number("investigations", "number")
    )
    investigation_id: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    purpose: Mapped[str]
    notes: Mapped[str]
    status: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[int] = mapped_column(BigInteger)


class ReaderRow(Checksummed, Base):
    """Somebody an investigation is shared with, by name."""

    __tablename__ = "investigation_readers"

    investigation: Mapped[int] = mapped_column(
        ForeignKey("investigations.number", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)


class QueryRow(Checksummed, Base):
    """Something that was searched for.

    Attributes:
        kind: "image", "tracklet" or "refined".
        vector: what was searched with, float32, comparable with those of `model_version` only; null for "refined",
            which is made of the others.
        pictures: how many it was made of.
        tracklet_id, camera_id, recording_sha256, start_pts_s, end_pts_s: of a tracklet that was searched with.
        filters: JSON, as in the record of searches.
    """

    __tablename__ = "investigation_queries"

    investigation: Mapped[int] = mapped_column(
        ForeignKey("investigations.number", ondelete="CASCADE"), primary_key=True
    )
    query_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    asked_by: Mapped[str]
    asked_at: Mapped[int] = mapped_column(BigInteger)
    model_version: Mapped[str]
    vector: Mapped[bytes | None]
    pictures: Mapped[int]
    tracklet_id: Mapped[str | None]
    camera_id: Mapped[str | None]
    recording_sha256: Mapped[str | None]
    start_pts_s: Mapped[float | None]
    end_pts_s: Mapped[float | None]
    filters: Mapped[str]


class QueryPictureRow(Checksummed, Base):
    """A picture that was searched with, kept because somebody asked for it: a JPEG of the part that was looked at."""

    __tablename__ = "investigation_pictures"
    __table_args__ = (
        ForeignKeyConstraint(
            ["investigation", "query_id"],
            ["investigation_queries.investigation", "investigation_queries.query_id"],
            ondelete="CASCADE",
        ),
    )

    investigation: Mapped[int] = mapped_column(primary_key=True)
    query_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    jpeg: Mapped[bytes]


class HitRow(Checksummed, Base):
    """A tracklet that somebody decided about.

    What says who was seen, where and when is null once it was erased (`erased_at`); that somebody decided, and how,
    stays. Start and end tell this tracklet from another one that got its id when the recording was ingested anew.
    """

    __tablename__ = "investigation_hits"
    __table_args__ = (Index("hits_by_investigation", "investigation", "tracklet_id"),)

    hit_id: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, default=next_number("investigation_hits", "hit_id")
    )
    investigation: Mapped[int] = mapped_column(ForeignKey("investigations.number", ondelete="CASCADE"))
    tracklet_id: Mapped[str | None]
    camera_id: Mapped[str | None]
    recording_sha256: Mapped[str | None]
    start_pts_s: Mapped[float | None]
    end_pts_s: Mapped[float | None]
    first_seen: Mapped[int | None] = mapped_column(BigInteger)
    last_seen: Mapped[int | None] = mapped_column(BigInteger)
    model_version: Mapped[str]
    query_id: Mapped[str | None]
    score: Mapped[float | None]
    decision: Mapped[str]
    note: Mapped[str]
    decided_by: Mapped[str]
    decided_at: Mapped[int] = mapped_column(BigInteger)
    erased_at: Mapped[int | None] = mapped_column(BigInteger)
