"""What becomes of an investigation when somebody in it is erased.

A hit stays as "erased": that somebody decided something about a tracklet, when, and how, so that an investigation does
not quietly count one hit less. Who was seen, where and when goes, and so does the note, which describes it, and the
score. A query that started from the tracklet goes whole, since its vector is a likeness of the person. Pictures that
somebody uploaded and chose to keep are not found by this: nothing says whom they show. They go with their query or
their investigation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, delete, select, tuple_
from sqlalchemy.orm import Session, load_only

from gallery_service.investigations.tables import HitRow, QueryRow
from ingest.erasures import Erasure, load_erasures
from ingest.shards import ShardError, newest_shards
from ingest.workspace import Workspace


@dataclass(frozen=True)
class _Part:
    """A tracklet that an investigation names, as it was."""

    tracklet_id: str
    camera_id: str
    recording_sha256: str
    start_pts_s: float
    end_pts_s: float


_COLUMNS = tuple(_Part.__annotations__)


def scrub_erased(workspace: Workspace, engine: Engine, at: int) -> int:
    """Take what was erased out of all investigations.

    A tracklet counts as erased when no shard holds it any more and an erasure reaches into its time. One that is gone
    because its recording was ingested anew in another way, with nothing erased there, is left as it is.

    Args:
        workspace: whose shards and erasures.
        engine: of its database.
        at: the moment of erasure, UTC microseconds.

    Returns:
        How many hits and queries there were.

    Raises:
        ErasureError, ShardError: what lies there cannot be read; nothing is changed then.
    """
    erasures: dict[str, list[Erasure]] = {}
    for erasure in load_erasures(workspace.erasures):
        erasures.setdefault(erasure.video_sha256, []).append(erasure)
    reached = {part for part in _named(engine, erasures) if _reaches(erasures[part.recording_sha256], part)}
    gone = reached - _still_there(workspace, reached)
    if not gone:
        return 0
    keys = [tuple(getattr(part, name) for name in _COLUMNS) for part in sorted(gone, key=lambda part: part.tracklet_id)]
    with engine.connect().execution_options(writes=True) as connection, Session(connection) as session:
        hits, queries = (tuple_(*(getattr(row, name) for name in _COLUMNS)).in_(keys) for row in (HitRow, QueryRow))
        nothing = dict.fromkeys((*_COLUMNS, "first_seen", "last_seen", "query_id", "score"))
        # The note is not read: also one that cannot be read any more has to go.
        scrubbed = session.scalars(select(HitRow).where(hits).options(load_only(HitRow.checksum))).all()
        for hit in scrubbed:
            for name, value in {**nothing, "note": "", "erased_at": at}.items():
                setattr(hit, name, value)
        removed = session.scalars(delete(QueryRow).where(queries).returning(QueryRow.query_id)).all()
        session.commit()
    return len(scrubbed) + len(removed)


def _named(engine: Engine, recordings: Iterable[str]) -> set[_Part]:
    wanted = set(recordings)
    if not wanted:
        return set()
    # As a writer, so that nobody is amid writing: who began before the erasure was written down has ended then, and who
    # begins later sees it.
    with engine.connect().execution_options(writes=True) as connection, Session(connection) as session:
        found = set()
        for row in (HitRow, QueryRow):
            columns = [getattr(row, name) for name in _COLUMNS]
            found |= {_Part(*one) for one in session.execute(select(*columns).where(row.tracklet_id.is_not(None)))}
        return {part for part in found if part.recording_sha256 in wanted}


def _reaches(erasures: Iterable[Erasure], part: _Part) -> bool:
    return any(one.start_pts_s <= part.end_pts_s and one.end_pts_s >= part.start_pts_s for one in erasures)


def _still_there(workspace: Workspace, parts: set[_Part]) -> set[_Part]:
    """Those that a shard still holds, be it of a camera that is left out now, or whose shard nobody can read now."""
    there: set[_Part] = set()
    wanted: dict[tuple[str, str], set[_Part]] = {}
    for part in parts:
        wanted.setdefault((part.camera_id, part.recording_sha256), set()).add(part)
    for shard in newest_shards(workspace) if wanted else []:
        mine = wanted.get((shard.camera_id, shard.video_sha256), set())
        if not mine:
            continue
        try:
            rows = shard.tracklets().select(["tracklet_id", "start_pts_s", "end_pts_s"]).to_pylist()
        except ShardError:
            there |= mine
            continue
        held = {(row["tracklet_id"], row["start_pts_s"], row["end_pts_s"]) for row in rows}
        there |= {part for part in mine if (part.tracklet_id, part.start_pts_s, part.end_pts_s) in held}
    return there
