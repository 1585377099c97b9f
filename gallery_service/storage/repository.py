"""Every query on the gallery's database, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Engine, delete, func, insert, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from gallery_service.audit.trail import AuditTrail
from gallery_service.caller import Caller
from gallery_service.storage.segments import day_of
from gallery_service.storage.tables import (
    AuditRow,
    EmbeddedShardRow,
    GalleryStateRow,
    ModelGalleryRow,
    SegmentRow,
    ShardRow,
    TombstoneRow,
    TrackletRow,
)

if TYPE_CHECKING:
    from gallery_service.erasure.erased_tracklets import ErasedTracklets

_IDENTITY = (
    TrackletRow.tracklet_id,
    TrackletRow.shard,
    TrackletRow.camera_id,
    TrackletRow.start_pts_s,
    TrackletRow.end_pts_s,
    ShardRow.recording_sha256,
)
"""What tells a tracklet from all others, and whether it was erased."""


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
class StoredSegment:
    """A vector segment that is whole; the columns of `SegmentRow`."""

    name: str
    model_version: str
    camera_id: str
    day: str
    tracklets: int
    size_bytes: int
    stale: bool = False


@dataclass(frozen=True)
class Searchable:
    """What one model could find at one moment.

    Attributes:
        tracklets: every tracklet that has crops, by id; the model may not have embedded all of them yet.
        segments: names of the segments that hold the vectors, and perhaps those of tracklets that are gone.
    """

    tracklets: list[SearchableTracklet]
    segments: list[str]


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
        engine: from `gallery_service.databases.gallery.gallery_database`, opened.
        erased: see `VisibleGallery`.
    """

    def __init__(self, engine: Engine, erased: ErasedTracklets | None = None) -> None:
        self._engine = engine
        self.audit = AuditTrail(engine, AuditRow)
        self._erased = erased

    @property
    def engine(self) -> Engine:
        """For the repositories of what else the database holds."""
        return self._engine

    def close(self) -> None:
        """Close the database's connections."""
        self._engine.dispose()

    # What the index command asks and writes.

    def shards(self) -> set[str]:
        """The shards whose tracklets are in the gallery."""
        return set(self.recordings())

    def recordings(self) -> dict[str, tuple[str, str]]:
        """Camera and recording's hash of every shard whose tracklets are in the gallery."""
        with Session(self._engine) as session:
            rows = session.execute(select(ShardRow.shard, ShardRow.camera_id, ShardRow.recording_sha256))
            return {row.shard: (row.camera_id, row.recording_sha256) for row in rows}

    def summaries(self) -> dict[str, str]:
        """The checksum that each shard's summary.json had when it was indexed."""
        with Session(self._engine) as session:
            rows = session.execute(select(ShardRow.shard, ShardRow.summary_sha256))
            return {row.shard: row.summary_sha256 for row in rows}

    def embedded(self, model_version: str) -> set[str]:
        """The shards that this model has embedded."""
        with Session(self._engine) as session:
            mine = EmbeddedShardRow.model_version == model_version
            return set(session.scalars(select(EmbeddedShardRow.shard).where(mine)))

    def rows_of(self, shard: str) -> tuple[dict[str, Any], list[dict[str, Any]], set[str]]:
        """What is kept of a shard: the columns of its `ShardRow` but for the checksum, those of its `TrackletRow`s but
        for `shard`, in the order of their ids, and the ids that have a tombstone.

        Raises:
            sqlalchemy.exc.NoResultFound: there is no such shard.
        """
        with Session(self._engine) as session:
            row = session.execute(select(ShardRow.__table__).where(ShardRow.shard == shard)).mappings().one()
            mine = select(TrackletRow.__table__).where(TrackletRow.shard == shard).order_by(TrackletRow.tracklet_id)
            tracklets = [
                {key: tracklet[key] for key in tracklet if key != "shard"}
                for tracklet in session.execute(mine).mappings()
            ]
            buried = set(session.scalars(select(TombstoneRow.tracklet_id).where(TombstoneRow.shard == shard)))
            return {key: row[key] for key in row if key != "checksum"}, tracklets, buried

    def segments(self, model_version: str | None = None) -> list[StoredSegment]:
        """The segments, of one model or of all, by name."""
        wanted = [] if model_version is None else [SegmentRow.model_version == model_version]
        with Session(self._engine) as session:
            rows = session.scalars(select(SegmentRow).where(*wanted).order_by(SegmentRow.name))
            return [
                StoredSegment(
                    row.name, row.model_version, row.camera_id, row.day, row.tracklets, row.size_bytes, row.stale
                )
                for row in rows
            ]

    def versions(self) -> set[str]:
        """Model versions of which anything is kept."""
        with Session(self._engine) as session:
            columns = (EmbeddedShardRow.model_version, SegmentRow.model_version, ModelGalleryRow.model_version)
            return {version for column in columns for version in session.scalars(select(column).distinct())}

    def put_shard(
        self,
        model_version: str,
        shard: dict[str, Any],
        tracklets: Sequence[dict[str, Any]],
        segments: Sequence[StoredSegment],
        replaces: Sequence[str] = (),
    ) -> None:
        """Make a shard searchable: its row, its tracklets' rows and the segments that hold its vectors, all at once.

        Args:
            model_version: whose segments have been written.
            shard: the columns of `ShardRow`. Another shard of the same camera and recording is superseded: it goes.
            tracklets: the columns of `TrackletRow`, but for `shard` and `camera_id`. Those with a tombstone stay away.
            segments: hold a vector of each of its tracklets that has crops.
            replaces: hashes of other recordings of the camera that this one takes the place of; their shards go, too.
        """
        name = shard["shard"]
        with self._change() as session:
            superseded = select(ShardRow.shard).where(
                ShardRow.camera_id == shard["camera_id"],
                ShardRow.recording_sha256.in_([shard["recording_sha256"], *replaces]),
                ShardRow.shard != name,
            )
            self._drop_shards(session, list(session.scalars(superseded)))
            buried = set(session.scalars(select(TombstoneRow.tracklet_id).where(TombstoneRow.shard == name)))
            # A shard never changes, so neither do its rows: whatever is there stays, for another model as well.
            if session.get(ShardRow, name) is None:
                session.execute(insert(ShardRow).values(shard))
                keys = {"shard": name, "camera_id": shard["camera_id"]}
                rows = [{**row, **keys} for row in tracklets if row["tracklet_id"] not in buried]
                if rows:
                    session.execute(insert(TrackletRow), rows)
            session.merge(EmbeddedShardRow(model_version=model_version, shard=name))
            self._add_segments(session, segments, stale=bool(buried))

    def tombstone(self, tracklets: Iterable[tuple[str, str]]) -> None:
        """Make tracklets vanish from everything that can be found, at once and for as long as their shards are there.
        Their vectors leave the disk with the next compaction.

        Args:
            tracklets: shard and tracklet id of each; they need not be in the gallery (yet).
        """
        with self._change() as session:
            for shard, tracklet_id in tracklets:
                session.merge(TombstoneRow(shard=shard, tracklet_id=tracklet_id))
                which = (TrackletRow.shard == shard, TrackletRow.tracklet_id == tracklet_id)
                self._mark_stale(session, *which)
                session.execute(delete(TrackletRow).where(*which))

    def tombstones(self) -> set[str]:
        """The shards of which a tracklet has a tombstone."""
        with Session(self._engine) as session:
            return set(session.scalars(select(TombstoneRow.shard).distinct()))

    def remove_tombstones(self, shards: Collection[str]) -> None:
        """Forget the tombstones of shards that are gone: nothing shall remind of who was erased."""
        with self._writing() as session:
            session.execute(delete(TombstoneRow).where(TombstoneRow.shard.in_(shards)))

    def remove_segments(self, names: Collection[str]) -> set[tuple[str, str]]:
        """Forget segments that are missing or damaged. Searches go on without their tracklets, and the index command
        embeds the shards of those again: model version and shard of each."""
        wanted = set(names)
        with self._writing() as session:
            found = [row for row in session.scalars(select(SegmentRow)) if row.name in wanted]
            columns = (TrackletRow.camera_id, TrackletRow.first_seen, TrackletRow.shard)
            of_cameras = TrackletRow.camera_id.in_({row.camera_id for row in found})
            lying: dict[tuple[str, str], set[str]] = {}
            for camera_id, first_seen, shard in session.execute(select(*columns).where(of_cameras)):
                lying.setdefault((camera_id, day_of(first_seen)), set()).add(shard)
            lost = {(row.model_version, shard) for row in found for shard in lying.get((row.camera_id, row.day), ())}
            for row in found:
                session.delete(row)
            for version, shard in sorted(lost):
                gone = (EmbeddedShardRow.model_version == version, EmbeddedShardRow.shard == shard)
                session.execute(delete(EmbeddedShardRow).where(*gone))
            # Embedded again, their vectors may come to lie in two segments, until these are made anew.
            shards = {shard for _, shard in lost}
            self._mark_partitions_stale(session, {place for place, there in lying.items() if there & shards})
            if found:
                self._count_change(session)
        return lost

    def replace_segments(self, old: Collection[str], new: Sequence[StoredSegment], generation: int) -> None:
        """Put compacted segments in the place of those they were made from.

        Args:
            old: names.
            new: hold everything of the old ones that was in the gallery at `generation`.
            generation: see `living`. What was taken away since is still in the new ones, so they are stale.
        """
        with self._change() as session:
            session.execute(delete(SegmentRow).where(SegmentRow.name.in_(old)))
            now = session.scalars(select(GalleryStateRow.generation).where(GalleryStateRow.id == 1)).one()
            self._add_segments(session, new, stale=now != generation)

    def remove_shards(self, shards: Collection[str]) -> None:
        """Forget shards that are gone, with their tracklets."""
        with self._change() as session:
            self._drop_shards(session, sorted(shards))

    def remove_versions(self, versions: Collection[str]) -> None:
        """Forget models that are gone."""
        with self._change() as session:
            for table in (SegmentRow, EmbeddedShardRow, ModelGalleryRow):
                session.execute(delete(table).where(table.model_version.in_(versions)))

    def living(self, shards: Collection[str]) -> tuple[int, set[tuple[str, str]]]:
        """The generation, and shard and id of every tracklet with crops that these shards have then."""
        with Session(self._engine) as session:
            generation = session.scalars(select(GalleryStateRow.generation).where(GalleryStateRow.id == 1)).one()
            living: set[tuple[str, str]] = set()
            for shard in shards:
                ids = select(TrackletRow.tracklet_id).where(TrackletRow.shard == shard, TrackletRow.crops > 0)
                living.update((shard, tracklet_id) for tracklet_id in session.scalars(ids))
            return generation, living

    def complete(self, model_version: str, completed_at: int) -> None:
        """Note that a model has been through every shard: searches may use it from now on."""
        with self._change() as session:
            session.merge(ModelGalleryRow(model_version=model_version, completed_at=completed_at))

    def crop_counts(self) -> list[tuple[str, str, int]]:
        """Shard, id and number of crops of every tracklet that has any."""
        with Session(self._engine) as session:
            columns = (TrackletRow.shard, TrackletRow.tracklet_id, TrackletRow.crops)
            rows = session.execute(select(*columns).where(TrackletRow.crops > 0))
            return [(shard, tracklet_id, crops) for shard, tracklet_id, crops in rows]

    def counts(self) -> tuple[int, int, int, int]:
        """Shards, cameras, tracklets and crops in the gallery."""
        with Session(self._engine) as session:
            cameras = func.count(ShardRow.camera_id.distinct())
            shards, cameras_ = session.execute(select(func.count(), cameras).select_from(ShardRow)).one()
            crops = func.coalesce(func.sum(TrackletRow.crops), 0)
            tracklets, crops_ = session.execute(select(func.count(), crops).select_from(TrackletRow)).one()
            return int(shards), int(cameras_), int(tracklets), int(crops_)

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

    def searchable(self, model_version: str) -> Searchable:
        """What a model can find now."""
        with Session(self._engine) as session:
            rows = session.execute(
                select(
                    TrackletRow.tracklet_id,
                    TrackletRow.shard,
                    TrackletRow.camera_id,
                    TrackletRow.first_seen,
                    TrackletRow.last_seen,
                    TrackletRow.quality,
                )
                .where(TrackletRow.crops > 0)
                .order_by(TrackletRow.tracklet_id)
            )
            tracklets = [SearchableTracklet(*row) for row in rows]
            names = select(SegmentRow.name).where(SegmentRow.model_version == model_version).order_by(SegmentRow.name)
            return Searchable(tracklets, list(session.scalars(names)))

    def seen_by(self, cameras: frozenset[str] | None) -> VisibleGallery:
        """What someone sees of the gallery who may see these cameras (`Caller.cameras`); None: all."""
        return VisibleGallery(self._engine, cameras, self._erased)

    def erased_tracklets(self) -> dict[str, str]:
        """The tracklets that were erased and are still in the tables: by id, the shard."""
        if self._erased is None:
            return {}
        with Session(self._engine) as session:
            rows = session.execute(
                select(*_IDENTITY)
                .join(ShardRow, ShardRow.shard == TrackletRow.shard)
                .where(ShardRow.recording_sha256.in_(self._erased.recordings()))
            ).all()
        erased = self._erased.among(rows)
        return {row.tracklet_id: row.shard for row in rows if row.tracklet_id in erased}

    def record(self, caller: Caller, action: str, details: Mapping[str, Any], purpose: str | None = None) -> None:
        """Write an entry of the audit log that is about no change of the gallery; see `AuditTrail.append`."""
        with self._writing() as session:
            self.audit.append(session, caller, action, details, purpose)

    def _drop_shards(self, session: Session, shards: Sequence[str]) -> None:
        for shard in shards:
            self._mark_stale(session, TrackletRow.shard == shard)
            session.execute(delete(ShardRow).where(ShardRow.shard == shard))  # and its tracklets with it

    def _mark_stale(self, session: Session, *which: ColumnElement[bool]) -> None:
        """Note which segments hold vectors of tracklets that are about to go."""
        rows = session.execute(select(TrackletRow.camera_id, TrackletRow.first_seen).where(*which))
        self._mark_partitions_stale(session, {(camera_id, day_of(first_seen)) for camera_id, first_seen in rows})

    def _mark_partitions_stale(self, session: Session, partitions: Iterable[tuple[str, str]]) -> None:
        for camera_id, day in partitions:
            # Only those that change: a row is read once more to be given a checksum.
            partition = (SegmentRow.camera_id == camera_id, SegmentRow.day == day, SegmentRow.stale.is_(False))
            for segment in session.scalars(select(SegmentRow).where(*partition)):
                segment.stale = True

    def _add_segments(self, session: Session, segments: Sequence[StoredSegment], *, stale: bool) -> None:
        for segment in segments:
            session.merge(SegmentRow(**{**asdict(segment), "stale": stale or segment.stale}))

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._engine.connect().execution_options(writes=True) as connection, Session(connection) as session:
            yield session
            session.commit()

    @contextmanager
    def _change(self) -> Iterator[Session]:
        with self._writing() as session:
            yield session
            self._count_change(session)

    def _count_change(self, session: Session) -> None:
        session.get_one(GalleryStateRow, 1).generation += 1


class VisibleGallery:
    """The gallery's rows as someone sees them who may see some cameras: the others' are not there, nor are those of who
    was erased, though they may still be in the tables.

    Everything that a request reads of tracklets goes through here, so that nobody can forget to narrow it.
    """

    def __init__(self, engine: Engine, cameras: frozenset[str] | None, erased: ErasedTracklets | None = None) -> None:
        self._engine = engine
        self._cameras = cameras
        self._erased = erased

    def _seen(self, camera_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
        return true() if self._cameras is None else camera_id.in_(self._cameras)

    def tracklets(self, tracklet_ids: Sequence[str]) -> dict[str, StoredTracklet]:
        """The tracklets of these ids that exist, by id."""
        with Session(self._engine) as session:
            rows = session.execute(
                select(
                    *_IDENTITY,
                    TrackletRow.first_seen,
                    TrackletRow.last_seen,
                    TrackletRow.best_crop_offset,
                    TrackletRow.best_crop_length,
                )
                .join(ShardRow, ShardRow.shard == TrackletRow.shard)
                .where(TrackletRow.tracklet_id.in_(tracklet_ids), self._seen(TrackletRow.camera_id))
            )
            found = [StoredTracklet(**row._asdict()) for row in rows]
        erased = set() if self._erased is None else self._erased.among(found)
        return {row.tracklet_id: row for row in found if row.tracklet_id not in erased}

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
