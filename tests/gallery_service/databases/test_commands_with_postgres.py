"""The commands and the service as a user meets them, with every row in a PostgreSQL server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from gallery_service.__main__ import app
from ingest.site import SiteConfig
from models.images import encode_jpeg

from .. import synthetic
from ..conftest import copy_site, run_service
from ..postgres import PASSWORD, PostgresServer
from ..test_command_line import refused as refused_process


def run(*arguments: object) -> Result:
    """A command, in this process: starting one takes seconds."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> Result:
    """A command that must do what was asked."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def site(server_database: str, built_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteConfig:
    monkeypatch.setenv("CALR_SITES", str(tmp_path / "sites"))
    return copy_site(built_site, tmp_path)


def search(client: httpx.Client) -> httpx.Response:
    """Look for somebody."""
    crop = ("crop.jpg", encode_jpeg(synthetic.query_crop(1)), "image/jpeg")
    return client.post("/api/v1/sites/toy/search", files={"image": crop}, params={"top_k": 3, "purpose": "case 7"})


def test_the_whole_way(site: SiteConfig, postgres: PostgresServer) -> None:
    first = done("index", site.folder, "--json", "--threads", 1)
    assert json.loads(first.stdout)["counts"] == {"shards": 3, "cameras": 2, "tracklets": 13, "crops": 52}
    assert "nothing new" in done("index", site.folder).stderr
    assert "answers" in done("models", site.folder).stdout
    added = CliRunner().invoke(
        app, ["users", "add", "eve", "--role", "admin", "--see", "*", "--password-stdin"], input="correct horse battery"
    )
    assert added.exit_code == 0, added.stderr
    key = done("keys", "add", "eve", "--name", "tests").stdout.strip()
    with (
        run_service(site.folder) as running,
        httpx.Client(base_url=running.url, timeout=120, headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        assert httpx.get(f"{running.url}/api/v1/sites").status_code == 401
        found = search(client).json()["matches"]
        assert len(found) == 3
        # A restart cuts every connection; the next request makes others.
        postgres.stop()
        postgres.start()
        assert search(client).json()["matches"] == found
        postgres.stop()
        away = search(client)
        assert away.status_code == 503, away.text
        assert "the database cannot be used now" in away.json()["detail"] and "127.0.0.1" not in away.text
        assert httpx.get(f"{running.url}/readyz").status_code == 503
        assert client.get("/api/v1/sites/toy/cameras").status_code == 503
        said = refused_process("audit", "verify", site.folder)
        assert said.count("\n") == 1 and said.startswith("error: CALR_DATABASE: ") and "refused" in said
        for secret in (PASSWORD, "s3cr%26t", "s3cr&t"):
            assert secret not in said and secret not in away.text
        for command in (
            ["index"],
            ["models"],
            ["verify"],
            ["compact"],
            ["erase", "--camera", "cam1", "--all", "--yes"],
        ):
            failed = run(command[0], site.folder, *command[1:])
            assert (failed.exit_code, failed.stdout) == (1, ""), command
            assert failed.stderr.startswith("error: CALR_DATABASE: "), failed.stderr
        postgres.start()
        assert search(client).json()["matches"] == found
        assert httpx.get(f"{running.url}/readyz").status_code == 200
        shown = done("audit", "show", site.folder, "--action", "search", "--json").stdout.splitlines()
        assert [json.loads(line)["purpose"] for line in shown] == ["case 7"] * 3
        victim = found[0]["tracklet_id"]
        erased = done("erase", site.folder, "--tracklet", victim, "--reason", "letter", "--yes", "--json")
        (proof,) = json.loads(erased.stdout)["proofs"]
        assert proof["state"] == "done"
        assert [tracklet["tracklet_id"] for tracklet in proof["tracklets"]] == [victim]
        assert [place["place"] for place in proof["searched"] if not place["looked_at"] or place["found"]] == []
        assert any("write-ahead log" in remark for remark in proof["remarks"])
        assert "write-ahead log" in erased.stderr
        assert victim not in [match["tracklet_id"] for match in search(client).json()["matches"]]
    done("erase", site.folder, "--verify", proof["erasure_id"])
    verified = done("verify", site.folder)
    assert "0 damaged" in verified.stderr
    for log in (site.folder, "users"):
        assert "whole: " in done("audit", "verify", log).stderr
    assert not list(site.folder.parent.rglob("*.sqlite"))
