"""What only holds of PostgreSQL: whose schema it is, who may connect, and what is left of what was deleted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from gallery_service.caller import LOCAL
from gallery_service.databases import postgres_schema
from gallery_service.databases.gallery import gallery_database
from gallery_service.errors import BadQuery, DatabaseUnavailable, GalleryError
from gallery_service.storage.repository import GalleryRepository
from gallery_service.verification import verify_site
from ingest.site import SiteConfig
from ingest.workspace import Workspace

from .. import synthetic
from ..postgres import PASSWORD, PostgresServer


@pytest.fixture
def site(server_database: str, tmp_path: Path) -> SiteConfig:
    return synthetic.write_site(tmp_path / "toy")


@pytest.fixture
def repository(site: SiteConfig) -> GalleryRepository:
    return GalleryRepository(gallery_database(Workspace(site)).open())


def administrator(url: str, *statements: str) -> None:
    """Do something that this program does not do."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def marker(site: SiteConfig) -> Path:
    return Workspace(site).gallery / "gallery.postgres"


def test_two_workspaces_of_one_name_do_not_share_a_schema(site: SiteConfig, tmp_path: Path) -> None:
    mine = gallery_database(Workspace(site))
    mine.open().dispose()
    other = synthetic.write_site(tmp_path / "elsewhere" / "toy")
    for ask in (lambda: gallery_database(Workspace(other)).open(), lambda: gallery_database(Workspace(other)).exists()):
        with pytest.raises(GalleryError, match=r"belongs to another folder than .*elsewhere") as refused:
            ask()
    assert not marker(other).exists()
    # The message tells the way out, for who knows that it is the same.
    owner = marker(site).read_text().strip()
    assert f"write {owner} into {marker(other)}" in str(refused.value)
    marker(other).parent.mkdir()
    marker(other).write_text(owner)
    assert gallery_database(Workspace(other)).identity() == mine.identity()
    # And where two meet that were both made, each keeps to its own.
    marker(other).write_text("f" * 32)
    with pytest.raises(GalleryError, match="belongs to another folder"):
        gallery_database(Workspace(other)).open()


def test_a_schema_that_is_gone_is_not_begun_anew_unasked(site: SiteConfig, server_database: str) -> None:
    database = gallery_database(Workspace(site))
    database.open().dispose()
    administrator(server_database, "DROP SCHEMA site_toy CASCADE")
    for ask in (database.exists, database.open):
        with pytest.raises(GalleryError, match=r"is this the right database.*delete .*gallery\.postgres to begin anew"):
            ask()
    marker(site).unlink()
    database.open().dispose()
    assert database.exists()


def test_killed_before_the_schema_was_there_it_goes_on(site: SiteConfig) -> None:
    marker(site).parent.mkdir()
    marker(site).write_text(f"{'e' * 32} begun\n")
    database = gallery_database(Workspace(site))
    assert not database.exists()
    database.open().dispose()
    assert marker(site).read_text() == "e" * 32 + "\n"


def test_killed_right_after_it_was_there_a_loss_is_noticed_still(site: SiteConfig, server_database: str) -> None:
    database = gallery_database(Workspace(site))
    database.open().dispose()
    marker(site).write_text(f"{marker(site).read_text().strip()} begun\n")
    database.open().dispose()
    administrator(server_database, "DROP SCHEMA site_toy CASCADE")
    with pytest.raises(GalleryError, match=r"is this the right database"):
        database.open()


def test_tables_that_were_put_back_are_others(
    repository: GalleryRepository, site: SiteConfig, server_database: str
) -> None:
    database = gallery_database(Workspace(site))
    before = database.identity()
    repository.complete("m-1", 1)
    assert database.identity() == before
    database.scrub()
    assert database.identity() == before, "writing it anew changes nothing"
    administrator(server_database, "ALTER SCHEMA site_toy RENAME TO kept")
    marker(site).unlink()
    database.open().dispose()
    assert database.identity() != before
    database.close()
    repository.close()


def test_readers_cannot_write(repository: GalleryRepository) -> None:
    with pytest.raises(DatabaseError, match="read-only"), repository.engine.connect() as connection:
        connection.execute(text("DELETE FROM shards"))
    repository.close()


def test_text_is_compared_by_code_points_in_every_locale(repository: GalleryRepository, server_database: str) -> None:
    """The tests' server knows no language whose order another could be."""
    with psycopg.connect(server_database) as connection:
        found = connection.execute(
            "SELECT collation_name, count(*) FROM information_schema.columns WHERE table_schema = 'site_toy' "
            "AND data_type = 'character varying' AND table_name <> 'alembic_version' GROUP BY 1"
        ).fetchall()
    assert [name for name, _ in found] == ["C"] and found[0][1] > 30
    repository.close()


def test_what_text_cannot_hold_is_the_clients_mistake(repository: GalleryRepository) -> None:
    with pytest.raises(BadQuery, match="NUL"):
        repository.record(LOCAL, "search", {}, purpose="a\0b")
    assert repository.audit.head()[0] == 0
    repository.close()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("password", "password authentication failed"),
        ("port", "refused"),
        ("database", "does not exist"),
        ("user", "authentication failed"),
        ("option", "invalid sslmode"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_in_one_line(
    site: SiteConfig, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, wrong: str, reason: str
) -> None:
    url = {
        "password": postgres.url(password=PASSWORD + "x"),
        "port": postgres.url().replace(str(postgres.port), "1"),
        "database": postgres.url("nowhere"),
        "user": postgres.url().replace("//calr:", "//eve:"),
        "option": postgres.url() + "?sslmode=never",
    }[wrong]
    monkeypatch.setenv("CALR_DATABASE", url)
    for ask in (gallery_database(Workspace(site)).open, gallery_database(Workspace(site)).exists):
        with pytest.raises(DatabaseUnavailable) as refused:
            ask()
        said = str(refused.value)
        assert said.startswith("CALR_DATABASE") and reason in said and "\n" not in said
        assert "s3cr" not in said and "pass word" not in said
        assert "127.0.0.1" not in refused.value.told, "clients need not know where it is"


def test_a_user_who_may_not_make_a_schema_is_told_what_to_ask_for(
    site: SiteConfig, postgres: PostgresServer, server_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    administrator(server_database, f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    monkeypatch.setenv("CALR_DATABASE", server_database.replace("//calr:", "//guest:"))
    with pytest.raises(GalleryError, match="GRANT CREATE ON DATABASE"):
        gallery_database(Workspace(site)).open()
    administrator(server_database, f"GRANT CREATE ON DATABASE {server_database.rpartition('/')[2]} TO guest")
    gallery_database(Workspace(site)).open().dispose()
    assert gallery_database(Workspace(site)).exists()


def test_a_schema_of_something_else_is_not_touched(site: SiteConfig, server_database: str) -> None:
    administrator(server_database, "CREATE SCHEMA site_toy", "CREATE TABLE site_toy.theirs (id int)")
    with pytest.raises(GalleryError, match="already exists"):
        gallery_database(Workspace(site)).open()
    with psycopg.connect(server_database) as connection:
        assert connection.execute("SELECT obj_description('site_toy'::regnamespace)").fetchone() == (None,)


def server_files(server: PostgresServer, needle: bytes) -> list[str]:
    """Which files of all databases hold it; the write-ahead log aside, which is the server's."""
    administrator(server.url(), "CHECKPOINT")
    files = [path for path in (server.data / "base").rglob("*") if path.is_file()]
    return [str(path) for path in files if needle in path.read_bytes()]


def test_deleted_rows_leave_the_servers_tables(
    repository: GalleryRepository, site: SiteConfig, postgres: PostgresServer, server_database: str
) -> None:
    shard = {"shard": "cam1/needle-in-hay", "camera_id": "cam1", "recording_sha256": "x", "tracklets": 0, "crops": 0}
    repository.put_shard("m-1", {**shard, "summary_sha256": "y"}, [], [])
    administrator(server_database, "ANALYZE")
    repository.remove_shards(["cam1/needle-in-hay"])
    assert server_files(postgres, b"needle-in-hay"), "dead rows stay where they are"
    gallery_database(Workspace(site)).scrub()
    assert server_files(postgres, b"needle-in-hay") == []
    repository.close()


def test_what_another_transaction_still_sees_is_no_quiet_success(
    repository: GalleryRepository, site: SiteConfig, server_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_schema, "_SCRUB_S", 0.3)
    shard = {"shard": "cam1/a", "camera_id": "cam1", "recording_sha256": "x", "tracklets": 0, "crops": 0}
    repository.put_shard("m-1", {**shard, "summary_sha256": "y"}, [], [])
    database = gallery_database(Workspace(site))
    with psycopg.connect(server_database) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT 1")
        repository.remove_shards(["cam1/a"])
        with pytest.raises(GalleryError, match="still kept for a transaction that began before"):
            database.scrub()
    database.scrub()
    repository.close()


def test_verify_finds_what_was_changed_in_the_server(
    server_database: str, built_gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ..conftest import copy_site

    site = copy_site(built_gallery, tmp_path)
    place = gallery_database(Workspace(site)).place
    found = verify_site(site)
    assert (found.damaged, found.unsure, found.checked["rows of shards"]) == ([], [], 3)
    for change, undo, problem in (
        (
            "UPDATE tracklets SET first_seen = first_seen + 1 WHERE tracklet_id LIKE 'cam1%'",
            "UPDATE tracklets SET first_seen = first_seen - 1 WHERE tracklet_id LIKE 'cam1%'",
            "are not what the shard says",
        ),
        (
            "UPDATE segments SET stale = NOT stale",
            "UPDATE segments SET stale = NOT stale",
            "the row of segments with name 'm-",
        ),
        (
            "ALTER TABLE audit DISABLE TRIGGER ALL",
            "ALTER TABLE audit ENABLE TRIGGER ALL",
            "audit_no_change was changed",
        ),
        (
            "ALTER TABLE tracklets DROP CONSTRAINT tracklets_shard_fkey",
            "ALTER TABLE tracklets ADD FOREIGN KEY (shard) REFERENCES shards ON DELETE CASCADE",
            "tracklets_shard_fkey was changed",
        ),
        ("DROP INDEX audit_by_who", "CREATE INDEX audit_by_who ON audit (who)", "audit_by_who was changed"),
    ):
        administrator(server_database, "SET search_path TO site_toy", change)
        damaged = verify_site(site).damaged
        assert {damage.path for damage in damaged} == {place}, change
        assert any(problem in damage.problem for damage in damaged), damaged
        administrator(server_database, "SET search_path TO site_toy", undo)
        assert verify_site(site).damaged == [], undo


def test_verify_finds_a_flipped_bit_in_the_servers_files(
    server_database: str, postgres: PostgresServer, built_gallery: Path, tmp_path: Path
) -> None:
    from ..conftest import copy_site

    site = copy_site(built_gallery, tmp_path)
    with psycopg.connect(server_database) as connection:
        (file,) = connection.execute("SELECT pg_relation_filepath('site_toy.tracklets')").fetchone() or ("",)
    postgres.stop()
    path = postgres.data / file
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)
    postgres.start()
    (damage,) = verify_site(site).damaged
    assert damage.path == gallery_database(Workspace(site)).place
    assert "invalid page" in damage.problem and "restore it from a backup" in damage.problem
    assert "\n" not in damage.problem
    content[-100] ^= 4
    path.write_bytes(content)
    assert verify_site(site).damaged == []


def test_a_backup_taken_with_pg_dump_can_be_put_back(
    repository: GalleryRepository, site: SiteConfig, postgres: PostgresServer, server_database: str
) -> None:
    repository.record(LOCAL, "search", {"n": 1})
    repository.close()
    dump = subprocess.run(
        [postgres.program("pg_dump"), "--schema=site_toy", server_database], capture_output=True, check=True
    ).stdout
    administrator(server_database, "DROP SCHEMA site_toy CASCADE")
    subprocess.run(
        [postgres.program("psql"), "--quiet", "--set=ON_ERROR_STOP=1", server_database],
        input=dump, check=True, capture_output=True,
    )  # fmt: skip
    database = gallery_database(Workspace(site))
    again = GalleryRepository(database.open())
    assert again.audit.verify().entries == 1
    assert database.changed_definitions() == []
    again.record(LOCAL, "search", {"n": 2})
    again.close()
