"""The tables of a gallery. Migrations make them (see `gallery_service.databases.migration`); queries are in
`repository`.

Times are integers, UTC microseconds; null where the recording does not say.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gallery_service.audit.tables import AuditColumns
from gallery_service.databases.row_checksum import Checksummed


class Base(DeclarativeBase):
    """What Alembic compares a database with."""


class ShardRow(Checksummed, Base):
    """A shard whose tracklets are in the gallery.

    Attributes:
        shard: its folder below shards/, `<camera>/<shard-id>`; the same recording may belong to two cameras.
        recording_sha256: content hash of the video the shard was cut from.
        summary_sha256: of its summary.json, which has the checksums of its other files.
    """

    __tablename__ = "shards"

    shard: Mapped[str] = mapped_column(primary_key=True)
    camera_id: Mapped[str]
    recording_sha256: Mapped[str]
    tracklets: Mapped[int]
    crops: Mapped[int]
    summary_sha256: Mapped[str]


class TrackletRow(Base):
    """A tracklet of the gallery; offset and length say where its best crop lies in its shard's crops.tar, `quality`
    how good that crop is (`ingest.crop_quality`; null: without crops)."""

    __tablename__ = "tracklets"
    __table_args__ = (Index("tracklets_by_shard", "shard"),)

    tracklet_id: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[str] = mapped_column(ForeignKey("shards.shard", ondelete="CASCADE"))
    camera_id: Mapped[str]
    start_pts_s: Mapped[float]
    end_pts_s: Mapped[float]
    first_seen: Mapped[int | None] = mapped_column(BigInteger)
    last_seen: Mapped[int | None] = mapped_column(BigInteger)
    time_source: Mapped[str | None]
    crops: Mapped[int]
    best_crop_offset: Mapped[int | None] = mapped_column(BigInteger)
    best_crop_length: Mapped[int | None] = mapped_column(BigInteger)
    quality: Mapped[float | None]


class TombstoneRow(Checksummed, Base):
    """A tracklet that must not be searchable, although its shard still has it. Kept for as long as that shard is there;
    what keeps the tracklet out of every later one is `erasures.jsonl`."""

    __tablename__ = "tombstones"

    shard: Mapped[str] = mapped_column(primary_key=True)
    tracklet_id: Mapped[str] = mapped_column(primary_key=True)


class EmbeddedShardRow(Checksummed, Base):
    """A shard whose crops this model has embedded; their vectors lie in segments of its camera and its days."""

    __tablename__ = "embedded_shards"

    model_version: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[str] = mapped_column(ForeignKey("shards.shard", ondelete="CASCADE"), primary_key=True)


class SegmentRow(Checksummed, Base):
    """A vector segment that is whole on disk (`gallery_service.storage.segments`).

    Attributes:
        name: gallery/<name>.safetensors.
        tracklets, size_bytes: of the file.
        stale: it may hold vectors of tracklets that are gone; compaction writes it anew without them.
    """

    __tablename__ = "segments"
    __table_args__ = (Index("segments_by_model", "model_version", "camera_id", "day"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    model_version: Mapped[str]
    camera_id: Mapped[str]
    day: Mapped[str]
    tracklets: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    stale: Mapped[bool]


class ModelGalleryRow(Checksummed, Base):
    """A model version that has been through every shard once and was checked, so that searches may use it."""

    __tablename__ = "model_galleries"

    model_version: Mapped[str] = mapped_column(primary_key=True)
    completed_at: Mapped[int] = mapped_column(BigInteger)


class GalleryStateRow(Checksummed, Base):
    """The only row counts the changes to what can be searched, so that a running service sees them cheaply."""

    __tablename__ = "gallery_state"

    id: Mapped[int] = mapped_column(primary_key=True)
    generation: Mapped[int]


class AuditRow(AuditColumns, Base):
    """Who did what at this site. The query image itself is not kept, only its hash."""
