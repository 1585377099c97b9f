"""Who is erased is gone from every byte, stays gone, and nobody else goes with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gallery_service.__main__ import app
from gallery_service.audit.trail import EntryFilter
from gallery_service.caller import Caller, Role
from gallery_service.databases.gallery import GALLERY, gallery_database
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.erasure import erase as erasing
from gallery_service.erasure.command import verify_proof
from gallery_service.erasure.erase import Outcome, erase, verify, would_erase
from gallery_service.erasure.orders import find_order, read_orders
from gallery_service.erasure.retention import keep_retention
from gallery_service.erasure.routes import ErasureRequest, _selection
from gallery_service.errors import BadQuery, GalleryError, NotFound
from gallery_service.indexing.build import IndexReport, build_gallery, compact_gallery
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import read_segment
from ingest.erasure_selection import Selection, Span
from ingest.erasures import load_erasures
from ingest.forgetting import Plan
from ingest.shards import list_shards
from ingest.site import SiteConfig
from ingest.workspace import Workspace, WorkspaceBusy
from models.bundle import ModelStore
from tests.gallery_service.conftest import copy_site
from tests.gallery_service.erasure.conftest import person, where
from tests.gallery_service.synthetic import START

ADA = Caller("ada", Role.ADMIN, None)
EVE = Caller("eve", Role.ADMIN, {"toy": frozenset({"cam1"})})


def erase_tracklet(site: SiteConfig, tracklet_id: str) -> Outcome:
    return erase(
        site, Selection(frozenset({tracklet_id})), asked={"tracklets": [tracklet_id]}, caller=ADA, reason="asked"
    )


def living(site: SiteConfig) -> set[str]:
    """The tracklets that have rows, and vectors of the live model."""
    bundle = ModelStore(Workspace(site).models).current()
    assert bundle is not None
    repository = GalleryRepository(gallery_database(Workspace(site)).open())
    try:
        return {row.tracklet_id for row in repository.searchable(bundle.version).tracklets}
    finally:
        repository.close()


def test_no_byte_of_a_person_is_left_and_everybody_else_is_there(either_database: str, site: SiteConfig) -> None:
    somebody = person(site)
    before = living(site)
    assert {text.rpartition(": ")[2].split(" ")[0] for text in where(site, somebody)} == {"id", "picture", "vector"}
    outcome = erase_tracklet(site, somebody.tracklet_id)
    assert where(site, somebody) == []
    assert living(site) == before - {somebody.tracklet_id}
    (proof,) = outcome.proofs
    assert outcome.clean and proof.state == "done"
    assert [tracklet.tracklet_id for tracklet in proof.tracklets] == [somebody.tracklet_id]
    assert (proof.by, proof.reason, len(proof.crops)) == ("ada", "asked", 4)
    assert proof.learned_from == ["run r-1"]
    assert all(place.looked_at for place in proof.searched) and len(proof.searched) == (
        9 if either_database == "file" else 8
    )
    assert bool(proof.remarks) == (either_database == "server"), "nobody can look through a server's own files"
    assert read_orders(Workspace(site)) == [proof]
    assert verify(site, proof).clean
    repository = GalleryRepository(gallery_database(Workspace(site)).open())
    entries = [entry for entry, _ in repository.audit.newest(EntryFilter(action="erasure"), None, 10)]
    repository.close()
    assert [(entry.who, entry.action, entry.purpose) for entry in reversed(entries)] == [
        ("ada", "erasure.begun", "asked"),
        ("ada", "erasure.proven", "asked"),
    ]
    assert json.loads(entries[0].details)["sha256"] == proof.as_json()["sha256"]
    # Asked for again, it is answered with what was done.
    assert erase_tracklet(site, somebody.tracklet_id).proofs == [proof]
    assert read_orders(Workspace(site)) == [proof]


def test_what_would_go_is_told_and_nothing_is_touched(site: SiteConfig) -> None:
    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(site.folder.rglob("*")) if p.is_file() and p.name != ".lock"}

    before = content()
    selection = Selection(spans={"cam1": Span(until=START + timedelta(minutes=10, seconds=4))})
    found = would_erase(site, selection, ADA)
    assert (len(found.tracklets), found.crops) == (2, 8)
    with pytest.raises(NotFound, match="is the id right"):
        would_erase(site, Selection(frozenset({"cam1/0123456789ab/000009"})), ADA)
    assert content() == before
    assert erase(site, selection, asked={}, caller=ADA).found == found


def test_a_whole_camera_with_recordings_of_unknown_time(site: SiteConfig) -> None:
    before = living(site)
    outcome = erase(site, Selection(spans={"cam2": Span()}), asked={}, caller=ADA)
    assert outcome.clean
    assert len(outcome.found.tracklets) == 8
    assert living(site) == {name for name in before if name.startswith("cam1/")}


@pytest.mark.usefixtures("either_database")
def test_a_site_without_a_gallery_can_erase(built_site: Path, tmp_path: Path) -> None:
    site = copy_site(built_site, tmp_path)
    shutil.rmtree(site.folder / "models")
    somebody = person(site)
    assert erase_tracklet(site, somebody.tracklet_id).clean
    assert where(site, somebody) == []


@pytest.mark.parametrize("name", ["calibration.json", "model.onnx", "bundle.json"])
def test_a_damaged_model_keeps_nobody(site: SiteConfig, name: str) -> None:
    """To remove something takes no model."""
    somebody = person(site)
    bundle = ModelStore(Workspace(site).models).current()
    assert bundle is not None
    with (bundle.path / name).open("a") as file:
        file.write("x")
    outcome = erase_tracklet(site, somebody.tracklet_id)
    assert where(site, somebody) == []
    (proof,) = outcome.proofs
    assert outcome.clean
    assert any(remark.startswith("the live model cannot be used") and name in remark for remark in proof.remarks)
    damaged = [f"model {bundle.version} (damaged: it does not say from what)"] if name == "bundle.json" else []
    assert proof.learned_from == ["run r-1", *damaged]
    assert find_order(Workspace(site), proof.erasure_id) == proof


POINTS = [
    ("before the order", 1),
    ("before the lines", 1),
    ("before reports", 1),
    ("before a shard", 1),
    ("before old shards go", 1),
    ("before it is dated", 1),
    ("before the gallery", 1),
    ("before rows", 1),
    ("before the scrub", 1),
    ("before the search", 1),
    ("before the proof", 1),
]


@pytest.mark.parametrize(
    ("kind", "point", "number"),
    [("file", *at) for at in POINTS] + [("server", "before rows", 1), ("server", "before the scrub", 1)],
)
def test_killed_on_the_way_it_goes_on(
    full_site: Path, request: pytest.FixtureRequest, kind: str, point: str, number: int
) -> None:
    if kind == "server":
        request.getfixturevalue("server_database")
    site: SiteConfig = request.getfixturevalue("site")
    somebody = person(site)
    before = living(site)
    command = [sys.executable, "-m", "tests.gallery_service.eraser", str(site.folder), somebody.tracklet_id, point]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([*command, str(number)], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    removed = point in ("before the scrub", "before the search", "before the proof")
    # A lock names the command that was killed while it held it, and with it whom it was asked to erase.
    assert bool([found for found in where(site, somebody) if not found.startswith(".lock")]) != removed
    # Whatever is erased next, or the same again, finishes it.
    outcome = erase_tracklet(site, somebody.tracklet_id)
    assert outcome.clean and len(outcome.proofs) == 1
    assert where(site, somebody) == []
    assert living(site) == before - {somebody.tracklet_id}
    build_gallery(site, quiet=True)
    assert where(site, somebody) == []


def test_another_erasure_finishes_one_that_was_interrupted(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = person(site), person(site, number=3)

    def crash(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("gallery_service.erasure.erase.obey_erasures", crash)
        with pytest.raises(OSError, match="no space"):
            erase_tracklet(site, first.tracklet_id)
    assert where(site, first)
    outcome = erase_tracklet(site, second.tracklet_id)
    assert sorted(tracklet.tracklet_id for proof in outcome.proofs for tracklet in proof.tracklets) == sorted(
        [first.tracklet_id, second.tracklet_id]
    )
    assert outcome.clean and where(site, first) == where(site, second) == []


def test_what_comes_back_is_found(site: SiteConfig, tmp_path: Path) -> None:
    somebody = person(site)
    shutil.copytree(site.folder, tmp_path / "backup")
    (proof,) = erase_tracklet(site, somebody.tracklet_id).proofs
    backup, root = tmp_path / "backup", Workspace(site).root

    def found() -> set[str]:
        return {place.place for place in verify(site, proof).searched if place.found}

    assert found() == set()
    for name, places in (
        ("report.html", {"reports and training runs"}),
        ("erasures.jsonl", {"erasures.jsonl"}),
        ("runs", {"reports and training runs"}),
        ("gallery", {"rows of the gallery", "vectors of crops", "bytes of vector files", "bytes of the database"}),
        ("shards", {"tables of all shards", "crops of the recordings"}),
    ):
        kept = tmp_path / "kept"
        (root / name).exists() and shutil.move(root / name, kept)
        if (backup / name).is_dir():
            shutil.copytree(backup / name, root / name)
        elif (backup / name).exists():
            shutil.copy2(backup / name, root / name)
        assert found() == places, name
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink(missing_ok=True)
        kept.exists() and shutil.move(kept, root / name)
        assert found() == set(), name


def test_deleted_rows_leave_the_databases_bytes(tmp_path: Path) -> None:
    """Also rows that were deleted before anybody thought of overwriting, and while somebody else has it open."""
    path = tmp_path / "gallery.sqlite"
    SqliteFile(path, GALLERY).open().dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("INSERT INTO shards VALUES ('cam1/x', 'cam1', ?, 1, 1, '', '')", ["needle" * 2000])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("DELETE FROM shards")
    reader = sqlite3.connect(path)
    reader.execute("SELECT count(*) FROM shards").fetchone()

    def holds() -> list[str]:
        return [file.name for file in tmp_path.iterdir() if b"needle" in file.read_bytes()]

    assert holds()
    SqliteFile(path, GALLERY).scrub()
    assert holds() == []
    assert reader.execute("SELECT count(*) FROM shards").fetchone() == (0,)
    reader.close()


@pytest.mark.usefixtures("either_database")
@pytest.mark.parametrize("lock", ["lock", "gallery_lock"])
def test_while_another_command_works_they_are_hidden_and_removed_later(site: SiteConfig, lock: str) -> None:
    somebody, other = person(site), person(site, number=1)
    workspace = Workspace(site)
    with getattr(workspace, lock)():
        outcome = erase_tracklet(site, somebody.tracklet_id)
        (order,) = outcome.proofs
        assert outcome.waiting and not outcome.clean and order.state == "begun"
        with pytest.raises(GalleryError, match="not finished"):
            verify_proof(str(site.folder), order.erasure_id, as_json=False)
        assert load_erasures(workspace.erasures) == order.erasures != []
        assert where(site, somebody)
        assert erase_tracklet(site, somebody.tracklet_id).proofs == [order]  # and not another one
        assert len(load_erasures(workspace.erasures)) == len(order.erasures)
        assert len(erase_tracklet(site, other.tracklet_id).proofs) == 2
        with pytest.raises(WorkspaceBusy) if lock == "lock" else nullcontext():
            keep_retention(site, datetime.now(UTC))
    assert keep_retention(site, datetime.now(UTC)) is not None
    assert keep_retention(site, datetime.now(UTC)) is None
    assert where(site, somebody) == where(site, other) == []
    assert all(proof.clean for proof in read_orders(workspace))


def test_a_line_that_another_erasure_spares_is_not_missed(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is under way, another process has the whole camera erased."""
    somebody = person(site)
    bury = erasing._bury
    with monkeypatch.context() as overtaking:

        def overtaken(workspace: Workspace, plan: Plan) -> None:
            bury(workspace, plan)
            overtaking.undo()
            waiting = erase(site, Selection(spans={"cam1": Span()}), asked={}, caller=ADA)
            assert waiting.waiting is not None

        overtaking.setattr(erasing, "_bury", overtaken)
        assert erase_tracklet(site, somebody.tracklet_id).clean
    keep_retention(site, datetime.now(UTC))
    assert [order.clean for order in read_orders(Workspace(site))] == [True, True]


def test_no_index_run_removes_what_the_proof_looks_through(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def looked_through(*args: Any) -> Any:
        with pytest.raises(WorkspaceBusy) as busy:
            compact_gallery(site)
        refused.append(busy)
        return read_segment(*args)

    with monkeypatch.context() as patched:
        patched.setattr("gallery_service.erasure.search_afterwards.read_segment", looked_through)
        (proof,) = erase_tracklet(site, person(site).tracklet_id).proofs
        once = len(refused)
        assert verify(site, proof).clean and len(refused) == 2 * once > 0
    assert proof.clean


def test_an_index_run_that_begins_before_the_proof_is_waited_for(
    site: SiteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody, workspace = person(site), Workspace(site)
    with ExitStack() as index_run, monkeypatch.context() as patched:

        def index(*args: Any, **options: Any) -> None:
            build_gallery(*args, **options)
            index_run.enter_context(workspace.gallery_lock())

        patched.setattr(erasing, "build_gallery", index)
        outcome = erase_tracklet(site, somebody.tracklet_id)
        assert outcome.waiting and [order.state for order in outcome.proofs] == ["begun"]
    finished = keep_retention(site, datetime.now(UTC))
    assert finished is not None and finished.clean and not finished.waiting


def test_what_is_made_after_the_removal_stays(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of shards that obey, and before the proof: the workspace is free then."""
    workspace = Workspace(site)
    labels, report = workspace.runs / "r-2" / "labels", workspace.root / "report.html"

    def train(*args: Any, **options: Any) -> IndexReport:
        with workspace.lock():
            labels.mkdir(parents=True)
            shards = [f"{shard.camera_id}/{shard.shard_id}" for shard in list_shards(workspace)]
            (labels.parent / "shards.json").write_text(json.dumps({"schema": 1, "shards": shards}))
            (labels.parent / "run.json").write_text("{}")
            report.write_text("new")
        return build_gallery(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(erasing, "build_gallery", train)
        (proof,) = erase_tracklet(site, person(site).tracklet_id).proofs
    assert proof.clean and proof.learned_from == ["run r-1"]
    assert keep_retention(site, datetime.now(UTC)) is None
    assert labels.exists() and report.exists()


def test_who_sees_some_cameras_is_told_of_those_and_of_their_own_orders(site: SiteConfig) -> None:
    theirs = person(site).tracklet_id
    selection, asked = Selection(frozenset({theirs})), {"tracklets": [theirs]}
    workspace = Workspace(site)
    with workspace.lock():
        erase(site, Selection(spans={"cam2": Span()}), asked={}, caller=ADA, reason="letter of Mrs Q")
        assert would_erase(site, selection, EVE).tracklets == [theirs]
        waiting = erase(site, selection, asked=asked, caller=EVE, reason="her own")
    assert (waiting.found.tracklets, waiting.found.crops) == ([theirs], 4)
    assert [(order.by, [t.tracklet_id for t in order.tracklets], len(order.crops)) for order in waiting.proofs] == [
        ("eve", [theirs], 4)
    ]
    assert waiting.waiting is not None
    second = person(site, number=1).tracklet_id
    done = erase(site, Selection(frozenset({second})), asked={}, caller=EVE, reason="her own, too")
    assert done.found.tracklets == [second]
    assert [(proof.reason, proof.clean) for proof in done.proofs] == [("her own", True), ("her own, too", True)]
    assert [order.clean for order in read_orders(workspace)] == [True] * 3, "what waited is done all the same"
    # What she erased herself is answered with that, and nobody else's.
    again = erase(site, selection, asked=asked, caller=EVE)
    assert [proof.reason for proof in again.proofs] == ["her own"]
    otto = Caller("otto", Role.ADMIN, EVE.rights)
    assert erase(site, selection, asked=asked, caller=otto).proofs == []


def test_a_camera_that_was_taken_out_has_no_name_for_who_may_not_see_it(site: SiteConfig) -> None:
    config = site.model_copy(update={"cameras": site.cameras[:1]})
    answers = []
    for camera in ("cam2", "cam7"):
        with pytest.raises(BadQuery) as refused:
            _selection(config, EVE, ErasureRequest(camera=camera, everything=True))
        answers.append(str(refused.value).replace(camera, "it"))
    assert answers[0] == answers[1]
    selection = _selection(config, ADA, ErasureRequest(camera="cam2", everything=True))
    assert len(erase(config, selection, asked={}, caller=ADA).found.tracklets) == 8


def test_a_proof_that_was_changed_is_no_proof(site: SiteConfig) -> None:
    (proof,) = erase_tracklet(site, person(site).tracklet_id).proofs
    path = Workspace(site).root / "erasures" / f"{proof.erasure_id}.json"
    content = json.loads(path.read_text())
    content["crops"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(GalleryError, match="changed since"):
        find_order(Workspace(site), proof.erasure_id)
    path.write_text("{")
    with pytest.raises(GalleryError, match="not an erasure"):
        find_order(Workspace(site), proof.erasure_id)
    for name in ("../site", "e-20260101T000000-00000000"):
        with pytest.raises(NotFound):
            find_order(Workspace(site), name)


def test_the_command(site: SiteConfig) -> None:
    somebody = person(site)

    def command(*options: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["erase", str(site.folder), *options])
        return done.exit_code, done.stdout, done.stderr

    for options, says in (
        ([], "choose what to erase"),
        (["--tracklet", "cam1/0123456789ab/000009"], "is the id right"),
        (["--expired"], "retention_days"),
        (["--expired", "--camera", "cam1"], "stands alone"),
        (["--camera", "cam9", "--all"], "no camera 'cam9'"),
        (["--verify", "e-20260101T000000-00000000"], "no erasure"),
    ):
        status, _, err = command(*options)
        assert status == 1 and says in err, err
    for options in ([], ["--yes", "--dry-run"]):
        status, out, err = command("--tracklet", somebody.tracklet_id, *options, "--json")
        assert status == 0 and "would be erased" in err
        assert json.loads(out)["tracklets"] == [somebody.tracklet_id]
    status, out, err = command("--tracklet", somebody.tracklet_id, "--yes", "--reason", "asked by letter", "--json")
    assert status == 0, err
    (proof,) = json.loads(out)["proofs"]
    assert proof["by"].startswith("local, command line of") and proof["reason"] == "asked by letter"
    assert proof["asked"] == {"tracklets": [somebody.tracklet_id]}
    assert "nothing found" in err and "run r-1" in err
    assert command("--verify", proof["erasure_id"])[0] == 0
    (site.folder / "report.html").write_text("old")
    os.utime(site.folder / "report.html", (0, 0))
    status, _, err = command("--verify", proof["erasure_id"])
    assert status == 3 and "1 found" in err


def test_moments_of_the_site(site: SiteConfig) -> None:
    """Recorded from 8:10 UTC on, which is 9:10 in Berlin."""
    done = CliRunner().invoke(
        app, ["erase", str(site.folder), "--camera", "cam1", "--until", "2026-03-01T09:10:02", "--json"]
    )
    assert len(json.loads(done.stdout)["tracklets"]) == 1
    assert list_shards(Workspace(site))[0].summary["start"] == datetime(2026, 3, 1, 8, 10, tzinfo=UTC).isoformat()
