"""The index command: embed what is new, forget what is gone.

The unit is the shard. Its segments are written first, then its rows in one transaction that also names the segments; so
a process killed at any moment leaves nothing half done, and running again does only what is missing. Vectors and rows
are the truth: whatever of the two is lost or damaged is made again from the shards.

A run goes on until nothing is missing, and looks again now and then at what there is: embedding a whole site with a new
model may take hours, in which recordings come in, tracklets are erased and models are promoted.
"""

from __future__ import annotations

import logging
import time
from collections import ChainMap, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gallery_service.databases.gallery import gallery_database
from gallery_service.errors import DatabaseUnavailable, GalleryError, SegmentError
from gallery_service.indexing.compaction import MANY, Compaction, compact, remove_unnamed, store_segment
from gallery_service.indexing.embedding import KnownVectors, embed_shard
from gallery_service.indexing.takeover import check_takeover
from gallery_service.investigations.erased import scrub_erased
from gallery_service.storage.model_versions import model_versions
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import SUFFIX, day_of, read_segment, segment_path
from gallery_service.storage.shard_rows import microseconds, shard_name, shard_rows
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.bundle import Bundle, BundleError, ModelStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ingest.shards import Shard
    from models.embedder import Embedder

# How long a run works before it looks again at what there is.
_LOOK_AGAIN_S = 30.0
# Partitions whose known vectors are held at a time; shards of one day mostly follow each other.
_PARTITIONS_HELD = 2

_log = logging.getLogger("gallery_service")


@dataclass
class IndexReport:
    """What one run of the index command did.

    Attributes:
        model_version: the live one.
        serving_version: the one that searches use now; another one while the live one has not taken over.
        counts: shards, cameras, tracklets and crops now in the gallery.
        added: shards, tracklets and crops of this run, with the live model.
        removed: shards that went in this run with nothing in their place.
        repaired: segments that were damaged or missing and were made again.
        compacted: segments that were merged, or written anew without what is gone.
        failures: shards that could not be read: {"shard", "error"}.
        problems: why the live model has not taken over, in words; empty when it has.
        seconds: of this run.
    """

    model_version: str
    serving_version: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=lambda: {"shards": 0, "tracklets": 0, "crops": 0})
    removed: int = 0
    repaired: int = 0
    compacted: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        done = self.added["shards"] or self.removed or self.repaired or self.compacted
        return bool(done or self.failures or self.problems)

    def as_json(self) -> dict[str, Any]:
        """As status/index.json has it, with `schema` and `state`."""
        return {"schema": 1, "state": "done", **asdict(self)}


def build_gallery(site: SiteConfig, *, threads: int | None = None, quiet: bool = False) -> IndexReport:
    """Bring a site's gallery up to date with its shards and its models.

    Args:
        site: whose workspace.
        threads: of the embedding session; None: as many as there are cores.
        quiet: show no progress bar.

    Returns:
        What was done; also written to status/index.json when anything was.

    Raises:
        GalleryError: there is no model or nothing was ingested yet; the message names the command to run.
        WorkspaceBusy: another index run is under way.
    """
    from ingest.shards import list_shards

    started = time.monotonic()
    workspace = Workspace(site)
    with workspace.gallery_lock():
        if ModelStore(workspace.models).current() is None:
            raise GalleryError(
                f"site '{site.name}' has no model yet: run 'python -m calr train {site.name}' and "
                f"'python -m calr export {site.name}' first (or 'make train-site SITE={site.name}')"
            )
        database = gallery_database(workspace)
        if not database.exists() and not list_shards(workspace):
            raise GalleryError(
                f"site '{site.name}' has no crops yet: run 'python -m ingest run {site.name}' first "
                f"(or 'make train-site SITE={site.name}')"
            )
        repository = GalleryRepository(database.open())
        try:
            run = _IndexRun(workspace, repository, threads)
            with _progress("embedding", quiet) as (set_total, advance):
                run.embed_all(set_total, advance)
            taken_over = run.take_over()
            scrub_erased(workspace, repository.engine, time.time_ns() // 1000)
            remove_unnamed(workspace.gallery, repository)
            database.empty_log()
            report = run.report
            names = ("shards", "cameras", "tracklets", "crops")
            report.counts = dict(zip(names, repository.counts(), strict=True))
        finally:
            repository.close()
        report.seconds = round(time.monotonic() - started, 3)
        if report.changed or taken_over or workspace.read_status("index") is None:
            workspace.write_status("index", report.as_json())
        return report


def compact_gallery(site: SiteConfig) -> Compaction:
    """Merge what is small, and remove the vectors of what is gone.

    Raises:
        GalleryError: there is no gallery yet.
        WorkspaceBusy: an index run is under way; it compacts by itself.
    """
    workspace = Workspace(site)
    with workspace.gallery_lock():
        database = gallery_database(workspace)
        if not database.exists():
            raise GalleryError(
                f"site '{site.name}' has no gallery yet: run 'python -m gallery_service index {site.name}'"
            )
        repository = GalleryRepository(database.open())
        try:
            _forget_shards(workspace, repository)
            scrub_erased(workspace, repository.engine, time.time_ns() // 1000)
            done = compact(workspace.gallery, repository)
            remove_unnamed(workspace.gallery, repository)
            database.empty_log()
        finally:
            repository.close()
        return done


def _forget_shards(workspace: Workspace, repository: GalleryRepository) -> tuple[dict[str, Shard], int]:
    """Forget the shards that are gone; those that are there by name, and how many were forgotten.

    One in whose place another has come stays until that one is embedded, so that what both have can be found all along.
    """
    from ingest.shards import list_shards

    shards = {shard_name(shard): shard for shard in list_shards(workspace)}
    present = {
        (shard.camera_id, sha256) for shard in shards.values() for sha256 in (shard.video_sha256, *shard.replaces)
    }
    recordings = repository.recordings()
    gone = {name for name, recording in recordings.items() if name not in shards and recording not in present}
    if gone:
        repository.remove_shards(gone)
    buried = {name for name in repository.tombstones() if not (workspace.shards / name).is_dir()}
    if buried:
        repository.remove_tombstones(buried)
    return shards, len(gone)


class _IndexRun:
    """One run. The caller holds the gallery's lock."""

    def __init__(self, workspace: Workspace, repository: GalleryRepository, threads: int | None) -> None:
        self._workspace = workspace
        self._repository = repository
        self._threads = threads
        self._store = ModelStore(workspace.models)
        self._versions = model_versions(self._store, repository)
        self._bundles: dict[str, Bundle | None] = {}
        self._embedders: dict[str, Embedder] = {}
        self._shards: dict[str, Shard] = {}
        self._crops: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        self._vanished = False
        self._repairs: set[tuple[str, str]] = set()
        self._current: set[str] = set()
        self._recordings: set[tuple[str, str]] = set()
        self._known: OrderedDict[tuple[str, bool], dict[bytes, NDArray[np.float16]]] = OrderedDict()
        self.report = IndexReport(self._versions.live or "")

    def embed_all(self, set_total: Callable[[int], None], advance: Callable[[int], None]) -> None:
        """Embed and compact until nothing is missing; see the module."""
        self._forget_lost_segments()
        done = 0
        while True:
            missing = self._look()
            set_total(done + sum(self._crops[shard] for _, shard in missing))
            look_again = time.monotonic() + _LOOK_AGAIN_S
            for version, shard in missing:
                if time.monotonic() > look_again:
                    break
                self._embed(version, shard, advance)
                done += self._crops[shard]
            compaction = compact(self._workspace.gallery, self._repository, MANY)
            self.report.compacted += compaction.replaced
            self.report.repaired += len(compaction.damaged)
            self._repairs |= compaction.lost
            if not missing and not compaction.damaged and not self._vanished:
                break
        self.report.failures = [{"shard": shard, "error": error} for shard, error in self._failures.items()]

    def take_over(self) -> bool:
        """Let the live model take over, if it has not yet and nothing speaks against it; whether it did."""
        live, serving = self._versions.live, self._versions.serving
        self.report.serving_version = serving
        if live is None or live == serving:
            return False
        behind = set() if serving is None else self._repository.embedded(serving) - self._repository.embedded(live)
        if behind:
            self.report.problems = [
                f"{shard}: {self._failures.get(shard, 'was not embedded')}" for shard in sorted(behind)
            ]
        else:
            bundle = self._bundle(live)
            assert bundle is not None
            self.report.problems = check_takeover(
                self._workspace.gallery, self._repository, bundle, self._embedder(live), self._shards
            )
        if self.report.problems:
            return False
        self._repository.complete(live, time.time_ns() // 1000)
        self.report.serving_version = live
        return True

    def _look(self) -> list[tuple[str, str]]:
        """Take note of what there is now and forget what is gone; which model has yet to embed which shard."""
        self._vanished = False
        self._versions = model_versions(self._store, self._repository)
        kept = self._versions.kept
        self.report.model_version = self._versions.live or ""
        old_versions = self._repository.versions() - set(kept)
        if old_versions:
            self._repository.remove_versions(old_versions)
        self._shards, gone = _forget_shards(self._workspace, self._repository)
        self.report.removed += gone
        self._recordings = set(self._repository.recordings().values())
        self._current = {segment.name for segment in self._repository.segments() if not segment.stale}
        self._known.clear()
        missing = []
        for version in kept:
            if self._bundle(version) is not None:
                embedded = self._repository.embedded(version)
                missing += [(version, name) for name in self._shards if name not in embedded]
        return [(version, name) for version, name in missing if self._is_readable(name)]

    def _is_readable(self, name: str) -> bool:
        if name not in self._crops and name not in self._failures:
            try:
                self._crops[name] = self._shards[name].crops().num_rows
            except (ValueError, OSError) as error:
                self._fail(name, error)
        return name in self._crops and name not in self._failures

    def _fail(self, name: str, error: Exception) -> None:
        # A shard that was replaced or erased while it was read is no failure, but there is something new to look at.
        if self._shards[name].path.is_dir():
            self._failures[name] = str(error)
        else:
            self._vanished = True

    def _bundle(self, version: str) -> Bundle | None:
        """A model, None for one that cannot be had; the live one was looked at before."""
        if version not in self._bundles:
            try:
                self._bundles[version] = self._store.load(version)
            except BundleError as error:
                _log.warning("nothing is embedded with model %s: %s", version, error)
                self._bundles[version] = None
        return self._bundles[version]

    def _embedder(self, version: str) -> Embedder:
        if version not in self._embedders:
            from models.embedder import Embedder

            bundle = self._bundle(version)
            assert bundle is not None
            self._embedders[version] = Embedder(bundle, threads=self._threads)
        return self._embedders[version]

    def _embed(self, version: str, name: str, advance: Callable[[int], None]) -> None:
        shard = self._shards[name]
        try:
            known = self._known_vectors(version, shard)
            segments = embed_shard(shard, version, lambda: self._embedder(version), known, advance)
            stored = [store_segment(self._workspace.gallery, segment) for segment in segments]
            row, tracklets = shard_rows(shard)
            self._repository.put_shard(version, row, tracklets, stored, shard.replaces)
        except DatabaseUnavailable:
            raise
        except (ValueError, OSError) as error:
            self._fail(name, error)
            return
        self._current |= {segment.name for segment in stored}
        if version == self._versions.live and (version, name) not in self._repairs:
            self.report.added["shards"] += 1
            self.report.added["tracklets"] += len(tracklets)
            self.report.added["crops"] += self._crops[name]

    def _known_vectors(self, version: str, shard: Shard) -> KnownVectors:
        """What the model made of such crops before: of a shard that this one replaces, or in a run that was killed."""
        days = {day_of(moment) for moment in microseconds(shard.tracklets(), "first_seen")}
        own = {(shard.camera_id, sha256) for sha256 in (shard.video_sha256, *shard.replaces)}
        replaces = not own.isdisjoint(self._recordings)
        return ChainMap(*(self._left_in(f"{version}/{shard.camera_id}/{day}", replaces) for day in sorted(days)))

    def _left_in(self, partition: str, all_of_it: bool) -> dict[bytes, NDArray[np.float16]]:
        """Vectors in a partition's files: only those that the database does not name, or names as holding what is gone,
        or all of them."""
        key = (partition, all_of_it)
        if key not in self._known:
            found: dict[bytes, NDArray[np.float16]] = {}
            for path in sorted((self._workspace.gallery / partition).glob(f"*{SUFFIX}")):
                name = f"{partition}/{path.stem}"
                if name in self._current and not all_of_it:
                    continue
                try:
                    segment = read_segment(self._workspace.gallery, name)
                except SegmentError:
                    continue  # what a damaged file holds is made again
                hashes = (row.tobytes() for row in segment.crop_sha256)
                found.update(zip(hashes, segment.crops, strict=True))
            self._known[key] = found
            if len(self._known) > _PARTITIONS_HELD:
                self._known.popitem(last=False)
        return self._known[key]

    def _forget_lost_segments(self) -> None:
        """Forget segments whose files are gone or cut short, so that no running service stumbles over them while they
        are made again. What changed inside a file is found by who reads it, and by the verify command."""
        lost = []
        for segment in self._repository.segments():
            path = segment_path(self._workspace.gallery, segment.name)
            if not path.is_file() or path.stat().st_size != segment.size_bytes:
                lost.append(segment.name)
        if lost:
            self.report.repaired += len(lost)
            self._repairs |= self._repository.remove_segments(lost)


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("crops, left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task(what, total=None)

        def set_total(total: int) -> None:
            progress.update(task, total=total)

        def advance(done: int) -> None:
            progress.advance(task, done)

        yield set_total, advance
