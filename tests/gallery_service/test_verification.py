"""The verify command: a flipped bit in any file is found and named."""

from __future__ import annotations

import random
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from gallery_service.databases.gallery import gallery_database, gallery_file
from gallery_service.errors import GalleryError
from gallery_service.indexing.build import build_gallery
from gallery_service.storage.repository import GalleryRepository
from gallery_service.verification import verify_site
from ingest.erasures import Erasure, add_erasures
from ingest.site import SiteConfig, sites_folder
from ingest.workspace import Workspace
from tests.gallery_service import synthetic

# What ingest and the user keep elsewhere, and what its command makes again.
UNCHECKED = ("site.yaml", "recordings/", "status/", ".lock", "models/.lock")
# How rows are called that are compared with something else.
NAMED = {"tracklets": "the rows of shard cam", "audit": "the audit log is broken: entry", "alembic_version": "schema"}


def flip(path: Path, draw: random.Random, *, in_use: bool = False) -> int:
    """Flip one bit of a file, or of those bytes of it that are not 0, as unused ones are; which."""
    content = bytearray(path.read_bytes())
    bit = draw.randrange(8 * len(content))
    if in_use:
        bit = 8 * draw.choice([at for at, byte in enumerate(content) if byte]) + bit % 8
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return bit


def rows(path: Path) -> list[str] | None:
    """Everything a database says; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return list(connection.iterdump())
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return None


def databases(site: SiteConfig) -> dict[str, Path]:
    return {"gallery": gallery_file(Workspace(site)), "users": sites_folder() / "service.sqlite"}


@contextmanager
def as_it_was(database: Path) -> Iterator[None]:
    """Whatever the block does to a database's file."""
    whole = database.read_bytes()
    try:
        yield
    finally:
        for log in ("-wal", "-shm"):
            database.with_name(database.name + log).unlink(missing_ok=True)
        database.write_bytes(whole)


def values(path: Path) -> dict[tuple[str, str], list[object]]:
    """What every column holds, by table and column; texts as bytes, whatever they are. What cannot be read is left
    out."""
    found = {}
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.DatabaseError, UnicodeDecodeError):
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        connection.text_factory = bytes
        for name in names:
            cursor = connection.execute(f'SELECT * FROM "{name}"')
            columns = zip(*cursor, strict=True)
            described = [(name, str(column[0])) for column in cursor.description]
            found.update(zip(described, map(list, columns), strict=False))
    return found


def places(content: bytes, value: object) -> list[tuple[int, int]]:
    """Where a value may lie in a database's file, and how long it is there. Small numbers may be anywhere."""
    form = value
    if isinstance(value, float):
        form = struct.pack(">d", value)
    elif isinstance(value, int):
        form = struct.pack(">q", value) if abs(value) >= 1 << 47 else b""
    assert isinstance(form, bytes) or form is None
    return [(found.start(), len(form)) for found in re.finditer(re.escape(form), content)] if form else []


def checked_files(site: SiteConfig) -> list[Path]:
    names = [path.relative_to(site.folder).as_posix() for path in site.folder.rglob("*") if path.is_file()]
    return [site.folder / name for name in sorted(names) if not name.startswith(UNCHECKED)]


def test_a_whole_workspace_has_nothing_wrong(indexed_site: SiteConfig) -> None:
    found = verify_site(indexed_site)
    assert (found.damaged, found.unsure) == ([], [])
    assert found.checked == {
        "models": 1, "recordings' hashes": 1, "shards": 3, "rows of shards": 3, "segments": 3,
        "entries of the audit log": 0, "rows with a checksum": 11,
    }  # fmt: skip


def test_a_flipped_bit_in_any_file_is_found_and_named(indexed_site: SiteConfig) -> None:
    draw = random.Random(7)
    database = gallery_file(Workspace(indexed_site))
    whole = database.read_bytes()
    box = (1.5, 2.0, 30.25, 40.0)
    lines = [Erasure(synthetic.pseudo_sha256(name), 1.25, 7.5, box) for name in ("here", "there")]
    add_erasures(Workspace(indexed_site).erasures, lines)
    files = [path for path in checked_files(indexed_site) if path != database]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".onnx", ".parquet", ".safetensors", ".tar", ""}
    for path in files:
        before = path.read_bytes()
        bit = flip(path, draw)
        named = {damage.path for damage in verify_site(indexed_site).damaged}
        assert named == {path.parent if path.parent.parent.name == "models" else path}, f"bit {bit} of {path}"
        path.write_bytes(before)
        database.write_bytes(whole)


def test_every_row_of_a_site_in_use_is_whole(lived_in_site: SiteConfig) -> None:
    found = verify_site(lived_in_site)
    assert (found.damaged, found.unsure) == ([], [])
    assert found.checked["entries of the audit log"] > 20
    assert found.checked["rows with a checksum"] == sum(
        len(held) for path in databases(lived_in_site).values() for (_, name), held in values(path).items()
        if name == "checksum"
    )  # fmt: skip


@pytest.mark.parametrize("which", ["gallery", "users"])
def test_a_flipped_bit_in_a_database_is_found_or_changes_nothing(lived_in_site: SiteConfig, which: str) -> None:
    """Unused bytes of its pages say nothing, and nothing says how they were."""
    draw = random.Random(11)
    database = databases(lived_in_site)[which]
    said = rows(database)
    found = 0
    for number in range(30):
        with as_it_was(database):
            bit = flip(database, draw, in_use=number % 3 > 0)
            damaged = verify_site(lived_in_site).damaged
            assert {damage.path for damage in damaged} <= {database}, f"bit {bit}"
            assert damaged or rows(database) == said, f"bit {bit}"
        found += bool(damaged)
    assert found > 10


@pytest.mark.parametrize("which", ["gallery", "users"])
def test_a_flipped_bit_in_any_stored_value_is_found_and_its_row_named(lived_in_site: SiteConfig, which: str) -> None:
    """One of every column. A letter becomes another letter, so that the database itself finds nothing wrong, or every
    other time something that is no letter at all."""
    draw = random.Random(13)
    database = databases(lived_in_site)[which]
    whole, said = database.read_bytes(), values(database)
    tried = set()
    for (table, column), held in sorted(said.items()):
        for place in [at + draw.randrange(length) for value in held for at, length in places(whole, value)]:
            content = bytearray(whole)
            content[place] ^= draw.choice((2, 128))
            with as_it_was(database):
                database.write_bytes(content)
                if values(database).get((table, column), held) == held:
                    continue  # the same in another place
                damaged = verify_site(lived_in_site).damaged
            assert damaged and {damage.path for damage in damaged} == {database}, f"{table}.{column}, byte {place}"
            problems = " ".join(damage.problem for damage in damaged)
            assert NAMED.get(table, f"the row of {table} with") in problems or "index" in problems, problems
            tried.add((table, column))
            break
    texts = {column for column, held in said.items() if any(isinstance(value, bytes) and value for value in held)}
    assert tried >= texts
    assert {table for table, _ in texts} == {table for table, _ in said}, "every table has some"


def test_a_changed_value_in_a_row_is_found(indexed_site: SiteConfig) -> None:
    """Where SQLite itself sees nothing wrong."""
    path = gallery_file(Workspace(indexed_site))
    for change in (
        "UPDATE tracklets SET first_seen = first_seen + 1 WHERE rowid = 1",
        "UPDATE tracklets SET camera_id = 'cam9' WHERE rowid = 2",
        "DELETE FROM tracklets WHERE rowid = 3",
        "UPDATE shards SET crops = crops + 1 WHERE rowid = 1",
        "UPDATE segments SET day = '2026-03-02' WHERE rowid = 1",
        "DELETE FROM segments WHERE rowid = 1",
    ):
        whole = path.read_bytes()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        damaged = verify_site(indexed_site).damaged
        assert damaged, change
        assert {damage.path for damage in damaged} == {path}, change
        path.write_bytes(whole)


def test_a_damaged_segment_leaves_the_searches_and_index_makes_it_again(indexed_site: SiteConfig) -> None:
    workspace = Workspace(indexed_site)
    segment = next(workspace.gallery.rglob("*.safetensors"))
    before = segment.read_bytes()
    flip(segment, random.Random(3))
    assert [damage.path for damage in verify_site(indexed_site).damaged] == [segment]
    assert build_gallery(indexed_site, threads=1, quiet=True).added["shards"] == 1
    assert segment.read_bytes() == before
    assert verify_site(indexed_site).damaged == []


def test_a_tombstone_is_no_damage(indexed_site: SiteConfig) -> None:
    repository = GalleryRepository(gallery_database(Workspace(indexed_site)).open())
    shard, tracklet_id, _ = repository.crop_counts()[0]
    repository.tombstone([(shard, tracklet_id)])
    repository.close()
    assert verify_site(indexed_site).damaged == []


def test_what_cannot_be_checked_is_said(indexed_site: SiteConfig) -> None:
    """A shard of an earlier version."""
    workspace = Workspace(indexed_site)
    folder = synthetic.add_shard(workspace, 1, synthetic.walks_of(1, 1), sha256=synthetic.pseudo_sha256("old"))
    summary = folder / "summary.json"
    lines = summary.read_text().split(' "files": {')
    summary.write_text(lines[0] + lines[1].split("},\n", 1)[1])
    found = verify_site(indexed_site)
    assert found.damaged == []
    assert [str(folder) in remark for remark in found.unsure] == [True]


def test_users_of_other_sites_are_not_this_sites_damage(
    indexed_site: SiteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        def exists(self) -> bool:
            raise GalleryError("schema service: belongs to another folder")

    monkeypatch.setattr("gallery_service.verification.service_database", Elsewhere)
    found = verify_site(indexed_site)
    assert found.damaged == [] and found.checked["rows of shards"] > 0
    assert found.unsure == ["the users were not checked: schema service: belongs to another folder"]


@pytest.mark.parametrize("broken", ["models/current", "models/history"])
def test_a_name_of_no_model_is_found(indexed_site: SiteConfig, broken: str) -> None:
    path = indexed_site.folder / broken
    path.write_text("m-0000\n")
    assert [damage.path for damage in verify_site(indexed_site).damaged] == [path]
