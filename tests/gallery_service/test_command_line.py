"""The commands as a user meets them: what goes to which stream, and what wrong use answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gallery_service.errors import GalleryError
from gallery_service.web.serving import address_of, listening_socket
from ingest.shards import list_shards
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import run_service


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gallery_service", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CALR_SERVICE_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def refused(*arguments: object) -> str:
    """The message of a command that must fail as a user's mistake does: one line, no traceback."""
    done = run(*arguments)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_index_search_and_index_again(site: SiteConfig, tmp_path: Path) -> None:
    first = run("index", site.folder, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["counts"] == {"shards": 3, "cameras": 2, "tracklets": 13, "crops": 52}
    assert "13 new tracklets" in first.stderr
    image = tmp_path / "query.jpg"
    image.write_bytes(encode_jpeg(synthetic.query_crop(1)))
    found = run("search", site.folder, image, "--top-k", 3, "--camera", "cam2", "--purpose", "test")
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert [match["camera_id"] for match in answer["matches"]] == ["cam2"] * 3
    again = run("index", site.folder)
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing new" in again.stderr


def test_models_verify_and_compact(indexed_site: SiteConfig) -> None:
    listed = run("models", indexed_site.folder, "--json")
    assert listed.returncode == 0, listed.stderr
    (model,) = json.loads(listed.stdout)["models"]
    assert (model["answers"], model["live"], model["rollback"], model["embedded_shards"]) == (True, True, False, 3)
    assert run("compact", indexed_site.folder).returncode == 0
    whole = run("verify", indexed_site.folder)
    assert (whole.returncode, whole.stdout) == (0, "")
    crops = next(indexed_site.folder.glob("shards/*/*/crops.tar"))
    crops.write_bytes(crops.read_bytes()[:-1])
    damaged = run("verify", indexed_site.folder, "--json")
    assert damaged.returncode == 1
    assert [one["path"] for one in json.loads(damaged.stdout)["damaged"]] == [str(crops)]
    assert str(crops) in damaged.stderr


def test_a_shard_that_cannot_be_read_ends_with_status_3(indexed_site: SiteConfig) -> None:
    workspace = Workspace(indexed_site)
    synthetic.add_shard(workspace, 1, synthetic.walks_of(1, 1), sha256=synthetic.pseudo_sha256("bad"))
    bad = next(s for s in list_shards(workspace) if s.video_sha256 == synthetic.pseudo_sha256("bad"))
    (bad.path / "manifest.parquet").write_bytes(b"no")
    done = run("index", indexed_site.folder)
    assert done.returncode == 3
    assert bad.shard_id in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_sites_images_and_parameters_are_named(
    indexed_site: SiteConfig, site_folder_without_gallery: Path
) -> None:
    folder = indexed_site.folder
    not_an_image = folder / "site.yaml"
    assert "no-such-site" in refused("index", "no-such-site")
    assert "no-such-site" in refused("serve", "no-such-site")
    assert "site.yaml" in refused("search", folder, not_an_image)
    assert "absent.jpg" in refused("search", folder, folder / "absent.jpg")
    assert "gallery_service index" in refused("serve", site_folder_without_gallery, "--port", 0)
    assert "called 'toy'" in refused("serve", folder, folder, "--port", 0)


@pytest.fixture
def site_folder_without_gallery(built_site: Path) -> Path:
    """The same site before `index`."""
    return built_site


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", "127.0.0.1.example.org", ""])
def test_without_users_it_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(GalleryError, match=r"--host 127\.0\.0\.1"):
        listening_socket(host, 0, has_users=False)


def test_another_host_is_refused_on_the_command_line(built_gallery: Path) -> None:
    assert "--host 127.0.0.1" in refused("serve", built_gallery, "--host", "0.0.0.0", "--port", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.9"])
def test_loopback_addresses_are_listened_on(host: str) -> None:
    with listening_socket(host, 0, has_users=False) as listening:
        assert address_of(listening).startswith("http://127.0.0.")


def test_a_taken_port_is_named(built_gallery: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused("serve", built_gallery, "--port", port)
    assert str(port) in message
    assert "--port" in message


def test_serves_until_ctrl_c_and_lets_go_of_the_port(indexed_site: SiteConfig) -> None:
    with run_service(indexed_site.folder) as running:
        port = int(running.url.rsplit(":", 1)[1])
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=60) == 0
        assert running.process.stderr is not None
        rest = running.process.stderr.read()
        assert "Traceback" not in rest
        assert "stopped" in rest
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_wrong_usage_is_status_2() -> None:
    assert run("serve").returncode == 2
    assert run("search", "toy").returncode == 2
    assert run("nonsense").returncode == 2
    assert run("--help").returncode == 0
