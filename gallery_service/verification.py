"""Everything a site's gallery stands on, read in full and compared with its checksums or with where it was made from.

    what                                    how a change shows
    gallery.sqlite, service.sqlite, or      the database's own check and its definitions; the checksum in every row, but
    schemas instead                         for tracklets (compared with the shards) and the audit log (its chain)
    gallery/**/*.safetensors                the checksums in the file, and the digest in its name
    shards/*/*/                             the checksums in summary.json, and that of summary.json in the database
    models/*/                               the checksums in bundle.json, and that of bundle.json in SHA256SUMS
    models/current, models/history          they name versions that are there
    content_hashes.json, erasures.jsonl,    the checksums in them
    erasures/*.json

What is made again by its command (status/, reports) and what only training reads (runs/) has no checksum. Of the log
that SQLite keeps beside a file while a service runs (-wal) only what is whole is read: what was written after a damaged
place in it counts as never written, which shows in the audit log against a hash kept elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gallery_service.access.database import service_database
from gallery_service.access.tables import AccessAuditRow
from gallery_service.audit.tables import AuditColumns
from gallery_service.audit.trail import AuditTrail
from gallery_service.databases.database import Database
from gallery_service.databases.gallery import gallery_database
from gallery_service.databases.row_checksum import checked_rows, read_any_text
from gallery_service.erasure.orders import orders_folder, read_order
from gallery_service.errors import DatabaseUnavailable, GalleryError, SegmentError
from gallery_service.indexing.takeover import crops_without_vector
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import read_segment, segment_path
from gallery_service.storage.shard_rows import shard_rows
from gallery_service.storage.tables import AuditRow
from ingest.content_hash import DamagedHashes, hashes_file, read_hashes
from ingest.erasures import ErasureError, load_erasures
from ingest.shards import CROPS, MANIFEST, SUMMARY, TRACKLETS, Shard, ShardError, open_shard
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.atomic import sha256_file
from models.bundle import BundleError, ModelStore


@dataclass(frozen=True)
class Damage:
    """A file, or a database in a server, that is not what it was, and how that shows."""

    path: Path | str
    problem: str


@dataclass
class Verification:
    """What was checked.

    Attributes:
        checked: how many things of each kind.
        damaged: what is wrong.
        unsure: what could not be checked, in words.
    """

    checked: Counter[str] = field(default_factory=Counter)
    damaged: list[Damage] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """What the command prints."""
        damaged = [{"path": str(damage.path), "problem": damage.problem} for damage in self.damaged]
        return {"schema": 1, "checked": dict(self.checked), "damaged": damaged, "unsure": self.unsure}

    def wrong(self, path: Path | str, problem: object) -> None:
        """Note a damage."""
        self.damaged.append(Damage(path, str(problem)))


def verify_site(site: SiteConfig) -> Verification:
    """Check a site's workspace. A segment that is damaged is taken out of the searches, so that the next index run
    makes it again; nothing else is changed.

    Raises:
        WorkspaceBusy: the gallery is being written to.
    """
    workspace = Workspace(site)
    found = Verification()
    with workspace.gallery_lock():
        _check_models(ModelStore(workspace.models), found)
        _check_records(workspace, found)
        _check_users(found)
        database = gallery_database(workspace)
        with _opened(database, AuditRow, found) as engine:
            if engine is None:
                _check_shards(workspace, {}, found)
            else:
                repository = GalleryRepository(engine)
                shards = _check_shards(workspace, repository.summaries(), found)
                _check_gallery(workspace, database.place, repository, shards, found)
    return found


def _check_users(found: Verification) -> None:
    """Nothing lies beside their rows that these could be compared with."""
    try:
        database = service_database()
        engine = _open(database, AccessAuditRow, found) if database.exists() else None
        if engine is not None:
            engine.dispose()
    except DatabaseUnavailable:
        raise
    except GalleryError as error:  # of other sites than this one
        found.unsure.append(f"the users were not checked: {error}")


def _check_models(store: ModelStore, found: Verification) -> None:
    folders = sorted(path for path in store.folder.glob("*") if path.is_dir() and not path.name.startswith("."))
    for folder in folders:
        found.checked["models"] += 1
        try:
            store.load(folder.name)
        except BundleError as error:
            found.wrong(folder, error)
    names = {folder.name for folder in folders}
    for path in (store.folder / "current", store.folder / "history"):
        if path.exists():
            text = path.read_bytes()
            lines = text.decode("utf-8", "replace").split("\n")
            unknown = [line for line in lines[:-1] if line not in names]
            if unknown or lines[-1]:
                found.wrong(path, f"names {(unknown or lines)[0][:80]!r}, which is no model here; promote one again")


def _check_records(workspace: Workspace, found: Verification) -> None:
    hashes = hashes_file(workspace)
    if hashes.exists():
        found.checked["recordings' hashes"] += 1
        try:
            read_hashes(hashes)
        except (DamagedHashes, OSError) as error:
            found.wrong(hashes, error)
    for proof in sorted(orders_folder(workspace).glob("*.json")):
        found.checked["proofs of erasures"] += 1
        try:
            read_order(proof)
        except GalleryError as error:
            found.wrong(proof, error)
    if workspace.erasures.exists():
        found.checked["lists of erasures"] += 1
        try:
            load_erasures(workspace.erasures)
        except ErasureError as error:
            found.wrong(workspace.erasures, error)


@contextmanager
def _opened(database: Database, log: type[AuditColumns], found: Verification) -> Iterator[Engine | None]:
    """A database, None where it is not there or its rows cannot be trusted.

    Args:
        database: which one.
        log: its audit table.
        found: notes what is wrong, also with rows that cannot be read inside the block.
    """
    engine = _open(database, log, found) if database.exists() else None
    try:
        yield engine
    except SQLAlchemyError as error:
        found.wrong(database.place, _unreadable(error))
    finally:
        if engine is not None:
            engine.dispose()


def _open(database: Database, log: type[AuditColumns], found: Verification) -> Engine | None:
    engine = None
    problems = database.inconsistencies()
    try:
        if not problems:
            engine = database.open()
            read_any_text(engine)
            problems = database.changed_definitions() or _changed_rows(engine, log, found)
    except DatabaseUnavailable:
        raise
    except GalleryError as error:
        problems = [str(error)]
    except SQLAlchemyError as error:
        problems = [_unreadable(error)]
    if not problems:
        found.unsure += database.unchecked()
        return engine
    for problem in problems:
        found.wrong(database.place, problem)
    if engine is not None:
        engine.dispose()
    return None


def _changed_rows(engine: Engine, log: type[AuditColumns], found: Verification) -> list[str]:
    """What is wrong with the rows that say by themselves how they were, in words."""
    problems = []
    for name, whole in checked_rows(engine):
        found.checked["rows with a checksum"] += 1
        if not whole:
            problems.append(f"{name} is not as it was written; restore it from a backup")
    audit = AuditTrail(engine, log).verify()
    found.checked["entries of the audit log"] += audit.entries
    if audit.problem is not None:
        problems.append(f"the audit log is broken: {audit.problem}")
    return problems


def _unreadable(error: SQLAlchemyError) -> str:
    return f"a row cannot be read ({getattr(error, 'orig', None) or error}); restore it from a backup"


def _check_shards(workspace: Workspace, indexed: Mapping[str, str], found: Verification) -> dict[str, Shard]:
    """The shards that are as they were, by name.

    Args:
        indexed: the checksum that the summary of a shard had when it was indexed, by the shard's name.
    """
    shards = {}
    for folder in sorted(workspace.shards.glob("*/*")):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        found.checked["shards"] += 1
        name = f"{folder.parent.name}/{folder.name}"
        try:
            shard = open_shard(folder)
            if indexed.get(name) not in (None, sha256_file(folder / SUMMARY)):
                raise ShardError("is not as it was when it was indexed; ingest the recording again")
            if shard.camera_id != folder.parent.name:
                raise ShardError(f"belongs to camera '{shard.camera_id}'; move it back")
        except (ShardError, OSError) as error:
            found.wrong(folder / SUMMARY, error)
            continue
        if _is_whole(shard, found):
            shards[name] = shard
    return shards


def _is_whole(shard: Shard, found: Verification) -> bool:
    sums = shard.summary.get("files")
    if not isinstance(sums, dict):
        found.unsure.append(f"{shard.path}: was written before shards had checksums")
        return True
    before = len(found.damaged)
    for file in (CROPS, MANIFEST, TRACKLETS):
        try:
            if sha256_file(shard.path / file) != sums.get(file):
                found.wrong(shard.path / file, f"its checksum is not the one in {SUMMARY}; ingest the recording again")
        except OSError as error:
            found.wrong(shard.path / file, error.strerror)
    return len(found.damaged) == before


def _check_gallery(
    workspace: Workspace,
    path: Path | str,
    repository: GalleryRepository,
    shards: Mapping[str, Shard],
    found: Verification,
) -> None:
    _check_rows(path, repository, shards, found)
    if not _check_segments(path, repository, workspace.gallery, found):
        for version in sorted(repository.versions()):
            for problem in crops_without_vector(workspace.gallery, repository, version):
                found.wrong(path, f"model {version}: {problem}; run the index command again")


def _check_rows(
    path: Path | str, repository: GalleryRepository, shards: Mapping[str, Shard], found: Verification
) -> None:
    """A shard's rows say what the shard says."""
    for name in sorted(repository.shards() & shards.keys()):
        found.checked["rows of shards"] += 1
        row, tracklets, buried = repository.rows_of(name)
        try:
            now, tracklets_now = shard_rows(shards[name])
        except (ShardError, OSError):
            continue  # its files were named already
        expected = [{**one, "camera_id": now["camera_id"]} for one in tracklets_now if one["tracklet_id"] not in buried]
        if row != now or tracklets != expected:
            found.wrong(path, f"the rows of shard {name} are not what the shard says; restore it from a backup")


def _check_segments(database: Path | str, repository: GalleryRepository, gallery: Path, found: Verification) -> bool:
    """Whether a segment is damaged; it is taken out of the searches then."""
    damaged = []
    for row in repository.segments():
        found.checked["segments"] += 1
        path = segment_path(gallery, row.name)
        try:
            segment = read_segment(gallery, row.name)
        except SegmentError as error:
            found.wrong(path, error)
            damaged.append(row.name)
            continue
        described = (segment.model_version, segment.camera_id, segment.day, len(segment.tracklet_ids))
        if (*described, path.stat().st_size) != (
            row.model_version, row.camera_id, row.day, row.tracklets, row.size_bytes,
        ):  # fmt: skip
            found.wrong(database, f"the row of segment {row.name} is not what the segment says")
    if damaged:
        repository.remove_segments(damaged)
    return bool(damaged)
