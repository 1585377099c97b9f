"""Recordings in an S3 store: a real server on a real socket (moto's), reached as any S3 program would."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from ingest.content_hash import RecordingFinder
from ingest.pipeline import ingest_site
from ingest.recording_file import StoreError, find_objects
from ingest.site import load_site
from ingest.site_status import site_status
from ingest.video import frames, frames_between
from ingest.workspace import Workspace
from tests.ingest.conftest import HEIGHT, WIDTH, Walker, write_video
from tests.ingest.test_pipeline import content_of, write_site


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 client of a store with an empty bucket `rec`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="rec")
    S3FileSystem.clear_instance_cache()  # they would go on with an earlier test's store
    yield client
    server.stop()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    walkers = [Walker(feet=110, start=0.8, speed=45)]
    return write_video(tmp_path / "from" / "a b.mp4", 4.0, walkers, creation_time="2026-03-01T08:00:00Z")


def test_a_site_whose_recordings_lie_in_a_store_has_the_same_shards(
    store: Any, recording: Path, tmp_path: Path
) -> None:
    store.upload_file(str(recording), "rec", "cam1/2026/a b.mp4")
    write_site(tmp_path / "s3", [{"id": "cam1", "videos": ["s3://rec/cam1/**/*.mp4"]}])
    write_site(tmp_path / "here", [{"id": "cam1", "videos": [str(recording)]}])
    remote = load_site(str(tmp_path / "s3"))
    assert ingest_site(remote).new == ingest_site(load_site(str(tmp_path / "here"))).new == 1
    assert content_of(tmp_path / "s3") == content_of(tmp_path / "here")
    assert ingest_site(remote).new == 0
    # What came meanwhile is seen, in the same process too.
    other = write_video(tmp_path / "from" / "b.mp4", 3.0, creation_time="2026-03-01T09:00:00Z")
    store.upload_file(str(other), "rec", "cam1/2026/b.mp4")
    assert ingest_site(remote).new == 1
    workspace = Workspace(remote)
    sha256 = next((workspace.shards / "cam1").glob("*/summary.json")).read_text().split('"video_sha256": "')[1][:64]
    found = RecordingFinder(workspace).find(remote, "cam1", sha256)
    assert found is not None
    assert [f.pts_s for f in frames_between(found, 1.0, 1.2, sound_clock=True)] == pytest.approx(
        [1.0, 1.05, 1.1, 1.15, 1.2]
    )


def test_what_is_not_there_is_refused_and_named(store: Any, tmp_path: Path) -> None:
    store.put_object(Bucket="rec", Key="cam2/empty.mp4", Body=b"")
    store.put_object(Bucket="rec", Key="cam2/text.mp4", Body=b"no video at all")
    write_site(
        tmp_path,
        [
            {"id": "cam1", "videos": ["s3://rec/cam1/missing.mp4", "s3://nobody/x.mp4"]},
            {"id": "cam2", "videos": ["s3://rec/cam2/*.mp4"]},
            {"id": "cam3", "videos": ["s3://rec/cam3/*.mp4"]},
        ],
    )
    result = ingest_site(load_site(str(tmp_path)))
    said = {refusal.path: refusal.error for refusal in result.refusals}
    assert "no such object" in said["s3://rec/cam1/missing.mp4"]
    assert "no such object" in said["s3://nobody/x.mp4"]
    assert "empty (0 bytes)" in said["s3://rec/cam2/empty.mp4"]
    assert "not a video" in said["s3://rec/cam2/text.mp4"]
    assert "no file matches" in said["s3://rec/cam3/*.mp4"]
    with pytest.raises(StoreError, match="name the bucket"):
        find_objects("s3://*/a.mp4")


def test_a_store_that_goes_away_is_not_the_end_of_a_recording(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a recording must not be taken for a whole one."""
    monkeypatch.setattr("ingest.recording_file._BLOCK", 4096)
    noise = np.random.default_rng(0)
    recording = write_video(
        tmp_path / "a.mp4", picture=lambda _: noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    )
    store.upload_file(str(recording), "rec", "a.mp4")
    (path,) = find_objects("s3://rec/a.mp4")
    read = frames(path)
    next(read)
    store.delete_object(Bucket="rec", Key="a.mp4")
    with pytest.raises(StoreError, match="taken out of the store"):
        list(read)


def test_a_store_that_does_not_answer_is_named_and_local_cameras_go_on(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    write_site(
        tmp_path / "site",
        [
            {"id": "cam1", "videos": ["s3://gone/*.mp4"]},
            {"id": "cam2", "videos": ["s3://gone/a.mp4"]},
            {"id": "cam3", "videos": [str(recording)]},
        ],
    )
    result = ingest_site(load_site(str(tmp_path / "site")))
    assert result.new == 1
    said = {refusal.camera: refusal.error for refusal in result.refusals}
    assert said.keys() == {"cam1", "cam2"}
    assert all("does not give it" in error and "Errno" not in error for error in said.values())
    status = {camera.camera: camera for camera in site_status(load_site(str(tmp_path / "site"))).cameras}
    assert "does not give it" in status["cam1"].failures[0].error
    assert status["cam3"].recordings == 1
