"""Every query on gallery.sqlite, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, delete, func, insert, select, true, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import InstrumentedAttribute, Session

from gallery_service.tables import (
    GalleryStateRow,
    ModelGalleryRow,
    SearchRow,
    SegmentRow,
    ShardRow,
    TrackletRow,
)


@dataclass(frozen=True)
class StoredTracklet:
    """What is shown of a tracklet, and where its crop and its recording lie. Times: UTC microseconds or None."""

    tracklet_id: str
    shard: str
    camera_id: str
    start_pts_s: float
    end_pts_s: float
    first_seen: int | None
    last_seen: int | None
    best_crop_offset: int | None
    best_crop_length: int | None
    recording_sha256: str


@dataclass(frozen=True)
class SearchableTracklet:
    """What a filter looks at."""

    tracklet_id: str
    shard: str
    camera_id: str
    first_seen: int | None
    last_seen: int | None
    quality: float | None


@dataclass(frozen=True)
class CameraSummary:
    """What the gallery holds of one camera. Times: UTC microseconds, None when no tracklet has one."""

    camera_id: str
    tracklets: int
    crops: int
    first_seen: int | None
    last_seen: int | None


class GalleryRepository:
    """The gallery's rows.

    Args:
        engine: from `gallery_service.database.open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Close the database's connections."""
        self._engine.dispose()

    # What the index command asks and writes.

    def shards(self) -> set[str]:
        """The shards whose tracklets are in the gallery."""
        with Session(self._engine) as session:
            return set(session.scalars(select(ShardRow.shard)))

    def unrated_shards(self) -> set[str]:
        """The shards whose rows were written before the quality of a tracklet was kept."""
        with Session(self._engine) as session:
            unrated = (TrackletRow.crops > 0, TrackletRow.quality.is_(None))
            return set(session.scalars(select(TrackletRow.shard).where(*unrated).distinct()))

    def segments(self, model_version: str) -> set[str]:
        """The shards that this model has embedded."""
        with Session(self._engine) as session:
            return set(session.scalars(select(SegmentRow.shard).where(SegmentRow.model_version == model_version)))

    def versions(self) -> set[str]:
        """Model versions of which anything is kept."""
        with Session(self._engine) as session:
            kept = set(session.scalars(select(SegmentRow.model_version).distinct()))
            return kept | set(session.scalars(select(ModelGalleryRow.model_version)))

    def put_shard(self, model_version: str, shard: dict[str, Any], tracklets: Sequence[dict[str, Any]]) -> None:
        """Make a shard searchable: its row, its tracklets' rows and the note that its segment is whole, all at once.

        Args:
            model_version: whose segment has been written.
            shard: the columns of `ShardRow`. Another shard of the same camera and recording is superseded: it goes.
            tracklets: the columns of `TrackletRow`, but for `shard` and `camera_id`.
        """
        with self._change() as session:
            session.execute(
                delete(ShardRow).where(
                    ShardRow.camera_id == shard["camera_id"],
                    ShardRow.recording_sha256 == shard["recording_sha256"],
                    ShardRow.shard != shard["shard"],
                )
            )
            statement = upsert(ShardRow).values(shard)
            session.execute(statement.on_conflict_do_update(index_elements=["shard"], set_=shard))
            session.execute(delete(TrackletRow).where(TrackletRow.shard == shard["shard"]))
            if tracklets:
                keys = {"shard": shard["shard"], "camera_id": shard["camera_id"]}
                session.execute(insert(TrackletRow), [{**row, **keys} for row in tracklets])
            segment = {"model_version": model_version, "shard": shard["shard"]}
            session.execute(upsert(SegmentRow).values(segment).on_conflict_do_nothing())

    def remove_segment(self, model_version: str, shard: str) -> None:
        """Forget a segment that is missing or damaged; searches leave it out until it is made again."""
        with self._change() as session:
            session.execute(
                delete(SegmentRow).where(SegmentRow.model_version == model_version, SegmentRow.shard == shard)
            )

    def remove_shards(self, shards: set[str]) -> None:
        """Forget shards that are gone, with their tracklets and segments."""
        with self._change() as session:
            for shard in sorted(shards):
                session.execute(delete(ShardRow).where(ShardRow.shard == shard))

    def remove_versions(self, versions: set[str]) -> None:
        """Forget models that are gone."""
        with self._change() as session:
            session.execute(delete(SegmentRow).where(SegmentRow.model_version.in_(versions)))
            session.execute(delete(ModelGalleryRow).where(ModelGalleryRow.model_version.in_(versions)))

    def complete(self, model_version: str, completed_at: int) -> None:
        """Note that a model has been through every shard: searches may use it from now on."""
        values = {"model_version": model_version, "completed_at": completed_at}
        with self._change() as session:
            statement = upsert(ModelGalleryRow).values(values)
            session.execute(statement.on_conflict_do_update(index_elements=["model_version"], set_=values))

    def counts(self) -> tuple[int, int, int, int]:
        """Shards, cameras, tracklets and crops in the gallery."""
        with Session(self._engine) as session:
            row = session.execute(
                select(
                    func.count(),
                    func.count(ShardRow.camera_id.distinct()),
                    func.coalesce(func.sum(ShardRow.tracklets), 0),
                    func.coalesce(func.sum(ShardRow.crops), 0),
                )
            ).one()
            return int(row[0]), int(row[1]), int(row[2]), int(row[3])

    # What a running service asks.

    def generation(self) -> int:
        """A number that changes with everything that can be searched."""
        with Session(self._engine) as session:
            return session.scalars(select(GalleryStateRow.generation).where(GalleryStateRow.id == 1)).one()

    def completed_versions(self) -> list[str]:
        """Models that searches may use, the latest first."""
        with Session(self._engine) as session:
            order = (ModelGalleryRow.completed_at.desc(), ModelGalleryRow.model_version)
            return list(session.scalars(select(ModelGalleryRow.model_version).order_by(*order)))

    def searchable(self, model_version: str) -> tuple[int, list[SearchableTracklet]]:
        """The generation, and every tracklet that the model has a vector of at that generation, by tracklet id."""
        with Session(self._engine) as session:
            generation = session.scalars(select(GalleryStateRow.generation).where(GalleryStateRow.id == 1)).one()
            rows = session.execute(
                select(
                    TrackletRow.tracklet_id,
                    TrackletRow.shard,
                    TrackletRow.camera_id,
                    TrackletRow.first_seen,
                    TrackletRow.last_seen,
                    TrackletRow.quality,
                )
                .join(SegmentRow, SegmentRow.shard == TrackletRow.shard)
                .where(SegmentRow.model_version == model_version, TrackletRow.crops > 0)
                .order_by(TrackletRow.tracklet_id)
            )
            return generation, [SearchableTracklet(*row) for row in rows]

    def with_crops(self) -> int:
        """How many tracklets could be searched if every segment were there."""
        with Session(self._engine) as session:
            return session.execute(select(func.count()).where(TrackletRow.crops > 0)).scalar_one()

    def seen_by(self, cameras: frozenset[str] | None) -> VisibleGallery:
        """What someone sees of the gallery who may see these cameras (`Caller.cameras`); None: all."""
        return VisibleGallery(self._engine, cameras)

    def add_search(self, **columns: Any) -> None:
        """Append to the record of searches: the columns of `SearchRow` but for `id`."""
        with self._writing() as session:
            session.execute(insert(SearchRow).values(**columns))

    def searches(self) -> list[SearchRow]:
        """The record of searches, oldest first."""
        with Session(self._engine, expire_on_commit=False) as session:
            rows = list(session.scalars(select(SearchRow).order_by(SearchRow.id)))
            session.expunge_all()
            return rows

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._engine.connect().execution_options(writes=True) as connection, Session(connection) as session:
            yield session
            session.commit()

    @contextmanager
    def _change(self) -> Iterator[Session]:
        with self._writing() as session:
            yield session
            session.execute(update(GalleryStateRow).values(generation=GalleryStateRow.generation + 1))


class VisibleGallery:
    """The gallery's rows as someone sees them who may see some cameras: the others' are not there.

    Everything that a request reads of tracklets goes through here, so that nobody can forget to narrow it.
    """

    def __init__(self, engine: Engine, cameras: frozenset[str] | None) -> None:
        self._engine = engine
        self._cameras = cameras

    def _seen(self, camera_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
        return true() if self._cameras is None else camera_id.in_(self._cameras)

    def tracklets(self, tracklet_ids: Sequence[str]) -> dict[str, StoredTracklet]:
        """The tracklets of these ids that exist, by id."""
        with Session(self._engine) as session:
            rows = session.execute(
                select(
                    TrackletRow.tracklet_id,
                    TrackletRow.shard,
                    TrackletRow.camera_id,
                    TrackletRow.start_pts_s,
                    TrackletRow.end_pts_s,
                    TrackletRow.first_seen,
                    TrackletRow.last_seen,
                    TrackletRow.best_crop_offset,
                    TrackletRow.best_crop_length,
                    ShardRow.recording_sha256,
                )
                .join(ShardRow, ShardRow.shard == TrackletRow.shard)
                .where(TrackletRow.tracklet_id.in_(tracklet_ids), self._seen(TrackletRow.camera_id))
            )
            return {row.tracklet_id: StoredTracklet(**row._asdict()) for row in rows}

    def cameras(self) -> list[CameraSummary]:
        """What the gallery holds of each camera that has a shard, by camera id."""
        with Session(self._engine) as session:
            rows = session.execute(
                select(
                    TrackletRow.camera_id,
                    func.count(),
                    func.sum(TrackletRow.crops),
                    func.min(TrackletRow.first_seen),
                    func.max(TrackletRow.last_seen),
                )
                .where(self._seen(TrackletRow.camera_id))
                .group_by(TrackletRow.camera_id)
                .order_by(TrackletRow.camera_id)
            )
            return [CameraSummary(*row) for row in rows]
