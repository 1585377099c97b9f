"""The index command: embed what is new, forget what is gone.

The unit is the shard. Its segment is written first, then its rows in one transaction that also notes the segment as
whole; so a process killed at any moment leaves nothing half done, and running again does only what is missing. Vectors
and rows are the truth: whatever of the two is lost or damaged is made again from the shards.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gallery_service.database import open_database
from gallery_service.errors import GalleryError, SegmentError
from gallery_service.repository import GalleryRepository
from gallery_service.segments import Segment, read_segment, segment_path, tracklet_means, write_segment
from ingest.site import SiteConfig
from ingest.workspace import Workspace

if TYPE_CHECKING:
    from ingest.shards import Shard
    from models.bundle import Bundle
    from models.embedder import Embedder

DATABASE = "gallery.sqlite"
_CHUNK = 256


@dataclass
class IndexReport:
    """What one run of the index command did.

    Attributes:
        model_version: whose vectors.
        counts: shards, cameras, tracklets and crops now in the gallery.
        added: shards, tracklets and crops of this run.
        removed: shards of this run.
        repaired: segments that were damaged or missing and were made again.
        failures: shards that could not be read: {"shard", "error"}.
        seconds: of this run.
    """

    model_version: str
    counts: dict[str, int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=lambda: {"shards": 0, "tracklets": 0, "crops": 0})
    removed: int = 0
    repaired: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.added["shards"] or self.removed or self.repaired or self.failures)

    def as_json(self) -> dict[str, Any]:
        """As status/index.json has it, with `schema` and `state`."""
        return {"schema": 1, "state": "done", **asdict(self)}


def database_path(workspace: Workspace) -> Path:
    """Where the gallery's database lies."""
    return workspace.gallery / DATABASE


def shard_name(shard: Shard) -> str:
    """`<camera>/<shard-id>`, as the gallery calls a shard."""
    return f"{shard.camera_id}/{shard.path.name}"


def build_gallery(site: SiteConfig, *, threads: int | None = None, quiet: bool = False) -> IndexReport:
    """Bring a site's gallery up to date with its shards and its current model.

    Args:
        site: whose workspace.
        threads: of the embedding session; None: as many as there are cores.
        quiet: show no progress bar.

    Returns:
        What was done; also written to status/index.json when anything was.

    Raises:
        GalleryError: there is no model or nothing was ingested yet; the message names the command to run.
    """
    from ingest.shards import list_shards
    from models.bundle import ModelStore

    started = time.monotonic()
    workspace = Workspace(site)
    with workspace.lock():
        store = ModelStore(workspace.models)
        bundle = store.current()
        if bundle is None:
            raise GalleryError(
                f"site '{site.name}' has no model yet: run 'python -m calr train {site.name}' and "
                f"'python -m calr export {site.name}' first (or 'make train-site SITE={site.name}')"
            )
        shards = {shard_name(shard): shard for shard in list_shards(workspace)}
        if not shards and not database_path(workspace).exists():
            raise GalleryError(
                f"site '{site.name}' has no crops yet: run 'python -m ingest run {site.name}' first "
                f"(or 'make train-site SITE={site.name}')"
            )
        repository = GalleryRepository(open_database(database_path(workspace)))
        try:
            report = IndexReport(bundle.version)
            report.removed = _forget(workspace.gallery, repository, set(shards), set(store.list()))
            _embed_missing(workspace.gallery, repository, bundle, shards, report, threads, quiet)
            completed = bundle.version not in repository.completed_versions()
            if completed:
                repository.complete(bundle.version, time.time_ns() // 1000)
            names = ("shards", "cameras", "tracklets", "crops")
            report.counts = dict(zip(names, repository.counts(), strict=True))
        finally:
            repository.close()
        report.seconds = round(time.monotonic() - started, 3)
        if report.changed or completed or workspace.read_status("index") is None:
            workspace.write_status("index", report.as_json())
        return report


def _forget(gallery: Path, repository: GalleryRepository, shards: set[str], versions: set[str]) -> int:
    """Remove rows, then files, of shards and models that are gone, and leftovers of runs that were killed."""
    gone = repository.shards() - shards
    if gone:
        repository.remove_shards(gone)
    old_versions = repository.versions() - versions
    if old_versions:
        repository.remove_versions(old_versions)
    for folder in sorted(path for path in gallery.iterdir() if path.is_dir()):
        if folder.name not in versions:
            shutil.rmtree(folder)
            continue
        expected = {segment_path(gallery, folder.name, shard) for shard in shards}
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in expected:
                path.unlink()
    return len(gone)


def _embed_missing(
    gallery: Path,
    repository: GalleryRepository,
    bundle: Bundle,
    shards: dict[str, Shard],
    report: IndexReport,
    threads: int | None,
    quiet: bool,
) -> None:
    version = bundle.version
    known, noted = repository.shards() - repository.unrated_shards(), repository.segments(version)
    whole: dict[str, bool] = {}
    for name in shards:
        path = segment_path(gallery, version, name)
        whole[name] = path.exists() and _is_whole(path, version, name)
        if name in noted and not whole[name]:
            # Said at once: until it is made again, a running service must not stumble over it.
            repository.remove_segment(version, name)
            report.repaired += 1
    missing = [name for name in shards if not (whole[name] and name in noted and name in known)]
    if not missing:
        return
    embedder: Embedder | None = None
    with _progress("embedding", quiet) as (set_total, advance):
        sizes, tables = {}, []
        for name in missing:
            try:
                sizes[name] = shards[name].crops().num_rows
                tables.append(name)
            except (ValueError, OSError) as error:
                report.failures.append({"shard": name, "error": str(error)})
        set_total(sum(sizes.values()))
        for name in tables:
            try:
                if whole[name]:
                    advance(sizes[name])
                else:
                    if embedder is None:
                        from models.embedder import Embedder

                        embedder = Embedder(bundle, threads=threads)
                    segment = embed_shard(shards[name], embedder, advance)
                    write_segment(segment_path(gallery, version, name), segment)
                shard, tracklets = _rows(shards[name])
                repository.put_shard(version, shard, tracklets)
            except (ValueError, OSError) as error:
                report.failures.append({"shard": name, "error": str(error)})
                continue
            if name in noted:
                continue  # a repair, counted above
            report.added["shards"] += 1
            report.added["tracklets"] += len(tracklets)
            report.added["crops"] += sizes[name]


def embed_shard(shard: Shard, embedder: Embedder, advance: Callable[[int], None] = lambda _: None) -> Segment:
    """Embed every crop of a shard.

    Args:
        shard: whose crops.
        embedder: the model.
        advance: told how many crops are done since it was last told.

    Raises:
        ValueError: a crop cannot be read.
    """
    from models.images import decode_image

    crops = shard.crops()
    crop_ids: list[str] = crops.column("crop_id").to_pylist()
    owners: list[str] = crops.column("tracklet_id").to_pylist()
    offsets = crops.column("offset").to_pylist()
    lengths = crops.column("length").to_pylist()
    tracklet_ids = list(dict.fromkeys(owners))
    number = {tracklet_id: row for row, tracklet_id in enumerate(tracklet_ids)}
    crop_tracklet = np.array([number[owner] for owner in owners], np.int32)
    parts = [np.empty((0, embedder.dim), np.float32)]
    for start in range(0, len(crop_ids), _CHUNK):
        chunk = range(start, min(start + _CHUNK, len(crop_ids)))
        images = [
            decode_image(shard.read_jpeg(offsets[i], lengths[i]), what=f"{shard.path}: crop {crop_ids[i]}")
            for i in chunk
        ]
        parts.append(embedder.embed(images))
        advance(len(chunk))
    embeddings = np.concatenate(parts).astype(np.float32)
    return Segment(
        model_version=embedder.version,
        shard=shard_name(shard),
        tracklet_ids=tracklet_ids,
        crop_ids=crop_ids,
        crop_tracklet=crop_tracklet,
        means=tracklet_means(embeddings, crop_tracklet, len(tracklet_ids)),
        crops=embeddings.astype(np.float16),
    )


def _rows(shard: Shard) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    crops, tracklets = shard.crops(), shard.tracklets()
    best: dict[str, tuple[float, float, int, int]] = {}
    count: dict[str, int] = {}
    names = ("tracklet_id", "quality", "detector_score", "offset", "length")
    for owner, quality, score, offset, length in zip(*(crops.column(n).to_pylist() for n in names), strict=True):
        count[owner] = count.get(owner, 0) + 1
        if owner not in best or (quality, score) > best[owner][:2]:  # the earliest of equals stays
            best[owner] = (quality, score, offset, length)
    rows = []
    columns = ("tracklet_id", "start_pts_s", "end_pts_s", "time_source")
    seen = (_microseconds(tracklets, "first_seen"), _microseconds(tracklets, "last_seen"))
    values = zip(*(tracklets.column(name).to_pylist() for name in columns), *seen, strict=True)
    for tracklet_id, start, end, source, first, last in values:
        quality, _, offset, length = best.get(tracklet_id, (None, 0, None, None))
        rows.append(
            {
                "tracklet_id": tracklet_id,
                "start_pts_s": start,
                "end_pts_s": end,
                "first_seen": first,
                "last_seen": last,
                "time_source": source,
                "crops": count.get(tracklet_id, 0),
                "best_crop_offset": offset,
                "best_crop_length": length,
                "quality": quality,
            }
        )
    row = {
        "shard": shard_name(shard),
        "camera_id": shard.camera_id,
        "recording_sha256": shard.video_sha256,
        "tracklets": tracklets.num_rows,
        "crops": crops.num_rows,
    }
    return row, rows


def _microseconds(table: Any, name: str) -> list[int | None]:
    import pyarrow as pa

    values: list[int | None] = table.column(name).cast(pa.int64()).to_pylist()
    return values


def _is_whole(path: Path, version: str, shard: str) -> bool:
    try:
        read_segment(path, model_version=version, shard=shard)
    except SegmentError:
        return False
    return True


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
