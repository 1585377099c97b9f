"""Content hashes are remembered, and forgotten when a file changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ingest.content_hash import ContentHashes, DamagedHashes, RecordingFinder, hashes_file, read_hashes
from ingest.site import SiteConfig, parse_site
from ingest.video import VideoError
from ingest.workspace import Workspace


@pytest.fixture
def site(tmp_path: Path) -> SiteConfig:
    (tmp_path / "a.mp4").write_bytes(b"some recording")
    return parse_site(
        {"schema": 1, "name": "x", "cameras": [{"id": "cam1", "videos": ["*.mp4"]}]}, tmp_path / "site.yaml"
    )


def test_read_once(site: SiteConfig) -> None:
    workspace, path = Workspace(site), site.folder / "a.mp4"
    hashes, read = ContentHashes(workspace), []
    assert hashes.known(path) is None
    assert hashes.sha256(path, read.append) == hashlib.sha256(b"some recording").hexdigest()
    assert sum(read) == len(b"some recording")
    hashes.save()
    again, read = ContentHashes(workspace), []
    assert again.sha256(path, read.append) == hashlib.sha256(b"some recording").hexdigest()
    assert read == []


def test_a_changed_file_is_read_again(site: SiteConfig) -> None:
    workspace, path = Workspace(site), site.folder / "a.mp4"
    hashes = ContentHashes(workspace)
    hashes.sha256(path)
    path.write_bytes(b"same  length!!")
    os.utime(path, ns=(1, 1))
    assert hashes.sha256(path) == hashlib.sha256(b"same  length!!").hexdigest()


def test_a_damaged_cache_costs_only_time(site: SiteConfig) -> None:
    workspace, path = Workspace(site), site.folder / "a.mp4"
    for content in ("{", "[]", '{"schema": 1}', '{"schema": 1, "files": {"x": 3}}'):
        (workspace.root / "content_hashes.json").write_text(content)
        assert ContentHashes(workspace).sha256(path) == hashlib.sha256(b"some recording").hexdigest()


def test_missing(site: SiteConfig) -> None:
    with pytest.raises(VideoError, match=r"b\.mp4"):
        ContentHashes(Workspace(site)).sha256(site.folder / "b.mp4")


def test_a_recording_is_found_by_content_under_any_name(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, path = Workspace(site), site.folder / "a.mp4"
    hashes = ContentHashes(workspace)
    content = hashes.sha256(path)
    hashes.save()
    monkeypatch.setattr("ingest.content_hash.FOUND_FOR_S", 0.0)
    recordings = RecordingFinder(workspace)
    assert recordings.find(site, "cam1", content) == path
    assert recordings.find(site, "cam1", "0" * 64) is None
    assert recordings.find(site, "cam9", content) is None
    path.rename(site.folder / "b.mp4")
    assert recordings.find(site, "cam1", content) is None  # not hashed under this name yet
    hashes.sha256(site.folder / "b.mp4")
    hashes.save()
    assert recordings.find(site, "cam1", content) == site.folder / "b.mp4"


def test_finding_many_recordings_reads_the_hashes_once(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(site)
    hashes = ContentHashes(workspace)
    content = hashes.sha256(site.folder / "a.mp4")
    hashes.save()
    read = []
    monkeypatch.setattr("ingest.content_hash.read_hashes", lambda path: read.append(path) or read_hashes(path))
    recordings = RecordingFinder(workspace)
    assert all(recordings.find(site, "cam1", content) for _ in range(20))
    assert len(read) == 1


def test_a_flipped_bit_in_the_hashes_is_noticed(site: SiteConfig) -> None:
    """Wherever it is: a hash that is another would make a recording another."""
    workspace = Workspace(site)
    hashes = ContentHashes(workspace)
    hashes.sha256(site.folder / "a.mp4")
    hashes.save()
    path = hashes_file(workspace)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 11):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedHashes, match="delete it"):
            read_hashes(path)
    assert ContentHashes(workspace).known(site.folder / "a.mp4") is None
