"""Looking for what was erased: in every place where it was kept, with other means than those that removed it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from gallery_service.databases.database import Database
from gallery_service.databases.gallery import FILE, GALLERY, gallery_database, gallery_file
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.erasure.names_in_files import names_in_files
from gallery_service.erasure.orders import Order, Place, grown_into
from gallery_service.storage.segments import SUFFIX, read_segment
from ingest.carried_erasures import lines_to_carry_in, states_of
from ingest.derived import derived_left, runs_before
from ingest.erasure_selection import not_yet_known
from ingest.erasures import Erasure, load_erasures
from ingest.forgetting import loss_of
from ingest.shards import TEMPORARY_PREFIX, Shard, open_shard
from ingest.workspace import Workspace
from models.bundle import ModelStore

RECORDS = ("audit",)
"""Tables that record who did what and are never changed. They may name an erased tracklet; nothing is left that the
name leads to."""


def search_afterwards(workspace: Workspace, order: Order) -> list[Place]:
    """Look for what an order erased. The caller holds the gallery's lock: an index run removes files that were listed.

    Args:
        order: with `removed_at`.

    Raises:
        ShardError, ErasureError, OSError: something cannot be read, so that nobody can say what it holds.
    """
    assert order.removed_at is not None
    since = datetime.fromisoformat(order.removed_at).timestamp()
    shards = list(_all_shards(workspace))
    # An id that another tracklet has since its recording was ingested anew says nothing.
    names = {tracklet.tracklet_id for tracklet in order.tracklets} - set(_reused(order, shards))
    recordings = {*order.recordings, *grown_into(order, shards)}
    derived = derived_left(workspace, recordings, since)
    return [
        _erasure_lines(workspace, order, shards),
        _tracklet_tables(workspace, order, shards),
        _crops(order, [shard for shard in shards if shard.video_sha256 in recordings]),
        Place("unfinished shards", 1, [str(path) for path in workspace.shards.glob(f"*/{TEMPORARY_PREFIX}*")]),
        Place("reports and training runs", 1, derived),
        _rows(gallery_database(workspace), names),
        _vectors(workspace.gallery, order),
        *_files(workspace, names),
    ]


def models_that_learned(workspace: Workspace, order: Order) -> list[str]:
    """The training runs that have seen what an order erased, and the models that came of them."""
    assert order.removed_at is not None
    since = datetime.fromisoformat(order.removed_at).timestamp()
    recordings = {*order.recordings, *grown_into(order, list(_all_shards(workspace)))}
    runs = [run.name for run in runs_before(workspace, recordings, since)]
    models = ModelStore(workspace.models).list()
    learned = (_learned(workspace, runs, version) for version in models)
    return [f"run {run}" for run in runs] + sorted(name for name in learned if name is not None)


def _learned(workspace: Workspace, runs: Sequence[str], version: str) -> str | None:
    """A model by its name if it comes of one of these runs. Read without a look at its weights: it may be damaged."""
    try:
        record = json.loads((workspace.models / version / "bundle.json").read_text(encoding="utf-8"))
        return f"model {version}" if record["training_run"] in runs else None
    except (OSError, ValueError, KeyError, TypeError):
        return f"model {version} (damaged: it does not say from what)"


def _all_shards(workspace: Workspace) -> Iterator[Shard]:
    for path in sorted(workspace.shards.glob("*/[!.]*")) if workspace.shards.is_dir() else []:
        if path.is_dir():
            yield open_shard(path)


def _reused(order: Order, shards: Sequence[Shard]) -> Iterator[str]:
    erased = {tracklet.tracklet_id: (tracklet.start_pts_s, tracklet.end_pts_s) for tracklet in order.tracklets}
    for name, span in _tracklets(shards):
        if name in erased and erased[name] != span:
            yield name


def _tracklets(shards: Sequence[Shard]) -> Iterator[tuple[str, tuple[float, float]]]:
    for shard in shards:
        table = shard.tracklets()
        columns = (table[name].to_pylist() for name in ("tracklet_id", "start_pts_s", "end_pts_s"))
        yield from ((name, (start, end)) for name, start, end in zip(*columns, strict=True))


def _erasure_lines(workspace: Workspace, order: Order, shards: Sequence[Shard]) -> Place:
    known = load_erasures(workspace.erasures)
    # As where they are written down: what another erasure forbids as a whole needs no line of its own.
    lost = not_yet_known(order.erasures, known)
    of_order = {shard.video_sha256 for shard in shards} & {*order.recordings, *grown_into(order, shards)}
    lost += [erasure for erasure in lines_to_carry_in(shards, known) if erasure.video_sha256 in of_order]
    return Place("erasures.jsonl", len(set(known)), [f"no longer forbidden: {erasure.to_json()}" for erasure in lost])


def _tracklet_tables(workspace: Workspace, order: Order, shards: Sequence[Shard]) -> Place:
    """By id and time. What a recording has grown into has other ids: there, what still walks where it is forbidden."""
    erased = {(t.tracklet_id, (t.start_pts_s, t.end_pts_s)) for t in order.tracklets}
    found = [row[0] for row in _tracklets(shards) if row in erased]
    longer = grown_into(order, shards)
    losses = [loss_of(shard, _lines_in(order, shard)) for shard in shards if shard.video_sha256 in longer]
    found += [name for loss in losses if loss is not None for name in sorted(loss.tracklets)]
    return Place("tables of all shards", len(shards), found)


def _lines_in(order: Order, shard: Shard) -> list[Erasure]:
    """What the order forbids of the recording that it has grown into."""
    states = states_of(shard)
    return [
        replace(erasure, video_sha256=shard.video_sha256)
        for erasure in order.erasures
        if erasure.video_sha256 in states
    ]


def _crops(order: Order, shards: Sequence[Shard]) -> Place:
    """Every JPEG that is left of the recordings, whatever the tables call it."""
    erased, count = set(order.crops), 0
    found = []
    for shard in shards:
        table = shard.crops()
        for name, offset, length in zip(*(table[c].to_pylist() for c in ("crop_id", "offset", "length")), strict=True):
            count += 1
            if hashlib.sha256(shard.read_jpeg(offset, length)).hexdigest() in erased:
                found.append(name)
    return Place("crops of the recordings", count, found)


def _rows(database: Database, names: set[str]) -> Place:
    """Every text in every table but the records."""
    if not database.exists():
        return Place("rows of the gallery", 0, [])
    count, found = 0, []
    try:
        for table, row in database.rows():
            if table not in RECORDS:
                count += 1
                found += [f"{table}: {value}" for value in row if isinstance(value, str) and value in names]
    finally:
        database.close()
    return Place("rows of the gallery", count, found)


def _vectors(gallery: Path, order: Order) -> Place:
    """Every vector of every model, by the hash of the crop that it was made from."""
    erased = {bytes.fromhex(sha256) for sha256 in order.crops}
    count, found = 0, []
    for path in sorted(gallery.rglob(f"*{SUFFIX}")):
        name = str(path.relative_to(gallery).with_suffix(""))
        hashes = read_segment(gallery, name, ["crop_sha256"]).crop_sha256
        count += len(hashes)
        found += [f"{name}: vector {row}" for row, sha256 in enumerate(hashes) if sha256.tobytes() in erased]
    return Place("vectors of crops", count, found)


def _files(workspace: Workspace, names: set[str]) -> list[Place]:
    """The bytes of the gallery's files: vectors, caches, and the database with its log and its free pages, also of one
    that was left behind by a gallery whose rows are in a server now. A server's own files nobody can look through."""
    gallery = workspace.gallery
    if not gallery.is_dir():
        return []
    found: dict[str, list[str]] = {"bytes of vector files": [], "bytes of the database": []}
    counts = dict.fromkeys(found, 0)
    recorded = _recorded(SqliteFile(gallery_file(workspace), GALLERY))
    paths = sorted(path for path in gallery.rglob("*") if path.is_file())
    for path, named in zip(paths, names_in_files(paths, names), strict=True):
        kind = "bytes of the database" if path.name.startswith(FILE) else "bytes of vector files"
        counts[kind] += 1
        left = named - recorded if kind == "bytes of the database" else named
        found[kind] += [f"{path.relative_to(gallery)}: {name}" for name in sorted(left)]
    if not counts["bytes of the database"] and not isinstance(gallery_database(workspace), SqliteFile):
        del found["bytes of the database"]
    return [Place(kind, counts[kind], found[kind]) for kind in found]


def _recorded(database: SqliteFile) -> set[str]:
    """Everything that the records say; whatever name stands in it is not a remnant."""
    if not database.exists():
        return set()
    texts = [value for table, row in database.rows() if table in RECORDS for value in row if isinstance(value, str)]
    return {name for text in texts for name in re.findall(r"[^\s\"/]+/[^\s\"/]+/\d+", text)}
