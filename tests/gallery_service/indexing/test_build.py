"""The index command: what it writes, that it does nothing twice, and that killing it loses nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gallery_service.databases.gallery import gallery_database
from gallery_service.errors import GalleryError
from gallery_service.indexing.build import build_gallery
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import UNTIMED, Segment, read_segment
from ingest.shards import list_shards
from ingest.site import SiteConfig, load_site
from ingest.workspace import Workspace, WorkspaceBusy
from models.bundle import ModelStore
from models.images import decode_image
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import copy_site
from tests.gallery_service.indexer import ColourEmbedder, use_colours


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed by colour in this process too."""
    monkeypatch.delitem(sys.modules, "models.embedder", raising=False)
    monkeypatch.setitem(sys.modules, "models.embedder", None)  # put back what was there afterwards
    use_colours()


def run_indexer(site: Path, point: str = "none", number: int = 1) -> int:
    command = [sys.executable, "-m", "tests.gallery_service.indexer", str(site), point, str(number)]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def artefacts(site: SiteConfig) -> tuple[dict[str, bytes], dict[str, list[tuple[object, ...]]]]:
    """The segment files and the rows; times and counters of when it happened are left out."""
    workspace = Workspace(site)
    files = {
        str(path.relative_to(workspace.gallery)): path.read_bytes()
        for path in sorted(workspace.gallery.rglob("*"))
        if path.is_file() and not path.name.startswith(("gallery.", ".gallery."))
    }
    tables = ("shards", "tracklets", "embedded_shards", "segments", "tombstones", "model_galleries")
    rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in tables}
    database = gallery_database(workspace)
    for table, row in database.rows():
        if table in tables:
            rows[table].append(tuple(row[:1] if table == "model_galleries" else row))
    database.close()
    for found in rows.values():
        found.sort(key=lambda row: [str(value) for value in row])
    return files, rows


def test_vectors_are_those_of_embedding_every_crop_by_itself(built_gallery: Path) -> None:
    from models.embedder import Embedder

    workspace = Workspace(load_site(str(built_gallery)))
    bundle = ModelStore(workspace.models).current()
    assert bundle is not None
    embedder = Embedder(bundle, threads=1)
    segments = segments_of(workspace)
    assert {(one.camera_id, one.day) for one in segments} == {
        ("cam1", "2026-03-01"), ("cam2", "2026-03-01"), ("cam2", UNTIMED),
    }  # fmt: skip
    for shard in list_shards(workspace):
        name = f"{shard.camera_id}/{shard.shard_id}"
        crops = shard.crops().to_pylist()
        for tracklet_id in shard.tracklets().column("tracklet_id").to_pylist():
            (segment, row), *others = [
                (one, list(one.rows()).index((name, tracklet_id)))
                for one in segments
                if (name, tracklet_id) in one.rows()
            ]
            assert not others
            stored = segment.crops[segment.crop_tracklet == row].astype(np.float64)
            hashes = segment.crop_sha256[segment.crop_tracklet == row]
            mine = [crop for crop in crops if crop["tracklet_id"] == tracklet_id]
            for crop, vector, sha256 in zip(mine, stored, hashes, strict=True):
                jpeg = shard.read_jpeg(crop["offset"], crop["length"])
                assert hashlib.sha256(jpeg).digest() == sha256.tobytes()
                # Batches may run in bfloat16 with another order of additions.
                assert float(embedder.embed([decode_image(jpeg, what="crop")])[0] @ vector) > 0.999
            slow = np.mean(stored, axis=0)
            np.testing.assert_allclose(segment.means[row], slow / np.linalg.norm(slow), atol=1e-3)
            assert np.linalg.norm(segment.means[row].astype(float)) == pytest.approx(1, abs=1e-3)


def test_rows_are_those_of_the_shards(built_gallery: Path) -> None:
    workspace = Workspace(load_site(str(built_gallery)))
    repository = GalleryRepository(gallery_database(workspace).open())
    quality = qualities(workspace)
    for shard in list_shards(workspace):
        crops = shard.crops().to_pylist()
        for row in shard.tracklets().to_pylist():
            stored = repository.seen_by(None).tracklets([row["tracklet_id"]])[row["tracklet_id"]]
            assert (stored.start_pts_s, stored.end_pts_s) == (row["start_pts_s"], row["end_pts_s"])
            for mine, theirs in ((stored.first_seen, row["first_seen"]), (stored.last_seen, row["last_seen"])):
                assert mine == (None if theirs is None else round(theirs.timestamp() * 1e6))
            best = max((c for c in crops if c["tracklet_id"] == row["tracklet_id"]), key=lambda c: c["quality"])
            assert (stored.best_crop_offset, stored.best_crop_length) == (best["offset"], best["length"])
            assert quality[row["tracklet_id"]] == pytest.approx(best["quality"])
    repository.close()


def qualities(workspace: Workspace) -> dict[str, float | None]:
    repository = GalleryRepository(gallery_database(workspace).open())
    (version,) = repository.completed_versions()
    rows = repository.searchable(version).tracklets
    repository.close()
    return {row.tracklet_id: row.quality for row in rows}


def test_a_second_run_has_nothing_to_do_and_loads_no_network(built_gallery: Path) -> None:
    status = (built_gallery / "status" / "index.json").read_bytes()
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['gallery_service', 'index', {str(built_gallery)!r}, '--json']\n"
        "try:\n    runpy.run_module('gallery_service', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'faiss', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stderr
    assert json.loads(done.stdout)["added"] == {"shards": 0, "tracklets": 0, "crops": 0}
    assert (built_gallery / "status" / "index.json").read_bytes() == status


@pytest.mark.usefixtures("either_database", "colours")
def test_only_new_shards_are_embedded(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_gallery(site, quiet=True)
    assert first.added == {"shards": 3, "tracklets": 13, "crops": 52}
    assert first.counts == {"shards": 3, "cameras": 2, "tracklets": 13, "crops": 52}
    workspace = Workspace(site)
    assert workspace.read_status("index") == first.as_json()
    synthetic.add_shard(workspace, 1, synthetic.walks_of(1, 2), sha256=synthetic.pseudo_sha256("new"))
    from gallery_service.indexing import build

    embedded = []
    original = build.embed_shard
    monkeypatch.setattr(
        build, "embed_shard", lambda shard, *rest: embedded.append(shard.path) or original(shard, *rest)
    )
    second = build_gallery(site, quiet=True)
    assert second.added == {"shards": 1, "tracklets": 2, "crops": 8}
    assert len(embedded) == 1
    assert second.counts["tracklets"] == 15
    assert not build_gallery(site, quiet=True).changed
    assert len(embedded) == 1


def segments_of(workspace: Workspace) -> list[Segment]:
    """The segments that the database names, read in full."""
    repository = GalleryRepository(gallery_database(workspace).open())
    names = [segment.name for segment in repository.segments()]
    repository.close()
    return [read_segment(workspace.gallery, name) for name in names]


def assert_whole(workspace: Workspace) -> None:
    """What is searchable at this moment is whole: each tracklet of a shard that was embedded has its crops' vectors."""
    stored = {
        (segment.model_version, *row): int(np.count_nonzero(segment.crop_tracklet == number))
        for segment in segments_of(workspace)
        for number, row in enumerate(segment.rows())
    }
    repository = GalleryRepository(gallery_database(workspace).open())
    for version in repository.versions():
        embedded = repository.embedded(version)
        for shard, tracklet_id, crops in repository.crop_counts():
            if shard in embedded:
                assert stored[version, shard, tracklet_id] == crops
    repository.close()


POINTS = [
    ("before embedding", 1), ("before embedding", 2), ("while a segment is written", 1),
    ("while a segment is written", 3), ("before rows", 1), ("before rows", 3), ("inside the transaction", 1),
    ("inside the transaction", 2), ("after rows", 2), ("before it is complete", 1), ("before the status", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(built_site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, object]:
    site = copy_site(built_site, tmp_path_factory.mktemp("undisturbed"))
    assert run_indexer(site.folder) == 0
    return artefacts(site)


# The first two files are the marker, before and after the schema is made.
IN_A_SERVER = [
    ("while a segment is written", 1), ("while a segment is written", 2), ("while a segment is written", 3),
    ("inside the transaction", 2), ("after rows", 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "point", "number"), [("file", *at) for at in POINTS] + [("server", *at) for at in IN_A_SERVER]
)
@pytest.mark.usefixtures("colours")
def test_killed_anywhere_and_run_again_it_ends_the_same(
    undisturbed: tuple[object, object], request: pytest.FixtureRequest, kind: str, point: str, number: int
) -> None:
    if kind == "server":
        request.getfixturevalue("server_database")
    site: SiteConfig = request.getfixturevalue("site")
    assert run_indexer(site.folder, point, number) == -signal.SIGKILL
    assert_whole(Workspace(site))
    build_gallery(site, quiet=True)
    assert artefacts(site) == undisturbed
    assert not build_gallery(site, quiet=True).changed


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("damage", ["truncate", "delete", "swap"])
def test_a_damaged_segment_is_noticed_and_made_again(site: SiteConfig, damage: str) -> None:
    build_gallery(site, quiet=True)
    before = artefacts(site)
    paths = sorted(Workspace(site).gallery.rglob("*.safetensors"))
    if damage == "truncate":
        paths[0].write_bytes(paths[0].read_bytes()[:-1])
    elif damage == "delete":
        paths[0].unlink()
    else:
        paths[0].write_bytes(paths[-1].read_bytes())
    report = build_gallery(site, quiet=True)
    assert (report.repaired, report.added["shards"]) == (1, 0)
    assert artefacts(site) == before


@pytest.mark.usefixtures("colours")
def test_a_lost_database_is_made_again_from_the_segments(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    build_gallery(site, quiet=True)
    before = artefacts(site)
    for path in Workspace(site).gallery.glob("gallery.sqlite*"):
        path.unlink()
    original = ColourEmbedder.embed

    def one_crop(self: ColourEmbedder, crops: Sequence[object], batch_size: int = 32) -> object:
        assert len(crops) == 1, "the vectors were there: only the spot check embeds"
        return original(self, crops, batch_size)

    monkeypatch.setattr(ColourEmbedder, "embed", one_crop)
    build_gallery(site, quiet=True)
    assert artefacts(site) == before


@pytest.mark.usefixtures("either_database", "colours")
def test_what_is_gone_is_forgotten(site: SiteConfig) -> None:
    """An erased recording, a shard that a newer one replaces, a deleted model, leftovers of a killed writer."""
    workspace = Workspace(site)
    build_gallery(site, quiet=True)
    erased = next((workspace.shards / "cam2").iterdir())
    shutil.rmtree(erased)
    old = next((workspace.shards / "cam1").iterdir())
    sha256 = json.loads((old / "summary.json").read_text())["video_sha256"]
    synthetic.add_shard(workspace, 1, synthetic.walks_of(1, 1), sha256=sha256, settings="b", generation=2)
    first = ModelStore(workspace.models).current()
    assert first is not None
    second = shutil.copytree(workspace.models / first.version, workspace.models / "m-2")
    bundle = json.loads((second / "bundle.json").read_text()) | {"version": "m-2"}
    (second / "bundle.json").write_text(json.dumps(bundle))
    (second / "SHA256SUMS").unlink()
    ModelStore(workspace.models).promote("m-2")
    shutil.rmtree(workspace.models / first.version)
    stray = workspace.gallery / "m-2" / "cam1" / ".x.safetensors.1.tmp"
    stray.parent.mkdir(parents=True)
    stray.touch()
    report = build_gallery(site, quiet=True)
    assert report.removed == 1  # the other has another in its place
    files, rows = artefacts(site)
    valid = [f"{shard.camera_id}/{shard.shard_id}" for shard in list_shards(workspace)]
    assert len(valid) == 2
    assert {owner for segment in segments_of(workspace) for owner, _ in segment.rows()} == set(valid)
    assert all(name.startswith("m-2/") for name in files)
    assert {row[0] for row in rows["shards"]} == set(valid)
    assert rows["model_galleries"] == [("m-2",)]
    shown = {shard.shard_id: shard.tracklets().num_rows for shard in list_shards(workspace)}
    assert len(rows["tracklets"]) == sum(shown.values())


@pytest.mark.usefixtures("colours")
def test_when_everything_was_erased_nothing_is_left(site: SiteConfig) -> None:
    workspace = Workspace(site)
    build_gallery(site, quiet=True)
    shutil.rmtree(workspace.shards)
    assert build_gallery(site, quiet=True).counts["tracklets"] == 0
    assert not list(workspace.gallery.rglob("*.safetensors"))


@pytest.mark.usefixtures("colours")
def test_a_shard_that_cannot_be_read_is_named_and_the_others_go_on(site: SiteConfig) -> None:
    workspace = Workspace(site)
    bad = next((workspace.shards / "cam2").iterdir())
    (bad / "crops.tar").write_bytes(b"")
    report = build_gallery(site, quiet=True)
    assert report.added["shards"] == 2
    assert [failure["shard"] for failure in report.failures] == [f"cam2/{bad.name}"]
    assert "crops.tar" in report.failures[0]["error"]


def test_what_is_missing_is_named_with_the_command_to_run(tmp_path: Path, site: SiteConfig) -> None:
    empty = synthetic.write_site(tmp_path / "empty", name="empty")
    with pytest.raises(GalleryError, match="calr export empty"):
        build_gallery(empty, quiet=True)
    shutil.rmtree(Workspace(site).shards)
    with pytest.raises(GalleryError, match="ingest run toy"):
        build_gallery(site, quiet=True)


def test_one_writer_at_a_time(site: SiteConfig) -> None:
    other = Workspace(site)
    with other.gallery_lock(), pytest.raises(WorkspaceBusy, match="in use by"):
        build_gallery(site, quiet=True)
