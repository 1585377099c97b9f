"""A Ray cluster of two machines (two Ray nodes of this one): the same shards as by local processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

from ingest.__main__ import app
from ingest.pipeline import IngestResult, ingest_site
from ingest.ray_cluster import _scratch, _shard_of
from ingest.set_aside import TRIES
from ingest.site import load_site
from tests.ingest.conftest import make_job, write_cameras
from tests.ingest.test_pipeline import ENVIRONMENT, content_of, start, write_site

# Two Ray nodes and their workers take half a minute to start.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that does no work; tests add machines that do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray hands its environment to its workers: they must find the package and its tests.
        patch.setenv("PYTHONPATH", os.getcwd())
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def recordings(tmp_path: Path) -> list[dict[str, Any]]:
    """Six cameras with a recording each."""
    return write_cameras(tmp_path / "recordings", 6, 4.0)


def test_without_a_cluster_it_is_said_how_to_start_one(
    recordings: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # First of these tests: a cluster on this machine would be found.
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_site(tmp_path / "ray", recordings[:1])
    result = CliRunner().invoke(app, ["run", str(tmp_path / "ray"), "--executor", "ray"])
    assert result.exit_code == 1
    assert "ray start --head" in result.stderr


def test_another_version_or_other_weights_on_a_machine_are_refused(recordings: list[dict[str, Any]]) -> None:
    job = make_job(Path(recordings[0]["videos"][0]), Path())
    kind, (name, said) = _shard_of(job, "another")
    assert (kind, name) == ("failed", "ClusterError")
    assert "version" in said
    assert _shard_of(job, job.shard_id)[1][1].startswith("the detector's weights there are others")


def test_what_a_killed_task_left_goes_and_what_is_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "calr-ingest-left").mkdir()
    (tmp_path / "calr-ingest-left" / "crops.tar").touch()
    with _scratch() as first, _scratch() as second:
        assert first.is_dir()
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert list(tmp_path.iterdir()) == []


def test_a_lost_machine_costs_nothing_and_the_shards_are_the_same(
    cluster: Cluster, recordings: list[dict[str, Any]], tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    write_site(tmp_path / "ray", recordings)
    results: list[IngestResult] = []

    def ingest() -> None:
        results.append(ingest_site(load_site(str(tmp_path / "ray")), executor="ray"))

    running = threading.Thread(target=ingest)
    running.start()
    while not list((tmp_path / "ray" / "shards").glob("*/[!.]*")):
        assert running.is_alive()
        time.sleep(0.01)
    cluster.remove_node(nodes[1], allow_graceful=False)
    running.join(timeout=300)
    assert [(result.new, result.refusals) for result in results] == [(6, [])]
    write_site(tmp_path / "local", recordings)
    assert ingest_site(load_site(str(tmp_path / "local"))).new == 6
    assert content_of(tmp_path / "ray") == content_of(tmp_path / "local")


def kill_tasks() -> int:
    """Kill whatever processes work on recordings now; how many there were."""
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(b"ray::_shard_of"):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    return killed


def test_what_kills_whoever_takes_it_and_what_is_broken_is_named(
    cluster: Cluster, recordings: list[dict[str, Any]], tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1)
    broken = tmp_path / "recordings" / "cam1.mp4"
    broken.write_bytes(broken.read_bytes()[:3000] + bytes(20_000))
    write_site(tmp_path / "ray", recordings[:2])
    results: list[IngestResult] = []
    running = threading.Thread(
        target=lambda: results.append(ingest_site(load_site(str(tmp_path / "ray")), executor="ray"))
    )
    running.start()
    deaths = 0
    while running.is_alive():
        deaths += kill_tasks()
        time.sleep(0.01)
    cluster.remove_node(node)
    assert deaths == TRIES
    refused = {refusal.camera: refusal.error for refusal in results[0].refusals}
    assert refused.keys() == {"cam0", "cam1"}
    assert "died" in refused["cam0"]
    assert list((tmp_path / "ray" / "shards").glob("*/*")) == []
    assert "set aside after 3 tries" in ingest_site(load_site(str(tmp_path / "ray"))).refusals[0].error
    assert not ray.is_initialized()


def test_when_the_cluster_ends_no_recording_is_blamed(
    recordings: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    monkeypatch.setitem(ENVIRONMENT, "RAY_ADDRESS", cluster.address)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.getcwd())
    write_site(tmp_path / "ray", recordings)
    process = start(tmp_path / "ray", "--executor", "ray")
    try:
        while not list((tmp_path / "ray" / "shards").glob("*/[!.]*")):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        cluster.shutdown()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the Ray cluster ended in the middle" in said
    done = ingest_site(load_site(str(tmp_path / "ray")))
    assert done.refusals == []
    assert sum(count.videos for count in done.cameras.values()) == 6
