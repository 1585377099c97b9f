"""models.atomic: whole or not there."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models import atomic
from models.atomic import make_folder, publish_folder, sha256_file, write_bytes, write_json, write_text


def test_writes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    write_text(path, "größer")
    assert path.read_bytes() == "größer".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_json_has_one_form(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.5, None]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  0.5,\n  null\n ],\n "b": 1\n}\n'


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n'


def test_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()  # a file cannot replace a folder
    with pytest.raises(OSError):
        write_bytes(tmp_path / "a", b"data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_publish_folder_moves_everything_and_never_replaces(tmp_path: Path) -> None:
    first = tmp_path / ".first.tmp"
    (first / "inner").mkdir(parents=True)
    (first / "inner" / "file").write_bytes(b"1")
    publish_folder(first, tmp_path / "final")
    assert (tmp_path / "final" / "inner" / "file").read_bytes() == b"1"
    assert not first.exists()

    second = tmp_path / ".second.tmp"
    second.mkdir()
    with pytest.raises(FileExistsError, match=r"final"):
        publish_folder(second, tmp_path / "final")
    assert second.is_dir()
    assert (tmp_path / "final" / "inner" / "file").read_bytes() == b"1"


def test_publish_folder_does_not_replace_an_empty_folder(tmp_path: Path) -> None:
    # rename(2) would.
    (tmp_path / ".new.tmp").mkdir()
    (tmp_path / "final").mkdir()
    with pytest.raises(FileExistsError):
        publish_folder(tmp_path / ".new.tmp", tmp_path / "final")


def test_folders_are_made_and_every_new_name_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic, "fsync_folder", synced.append)
    (tmp_path / "a").mkdir()
    for _ in range(2):
        make_folder(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    assert synced == [tmp_path / "a", tmp_path / "a/b"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_sha256_file(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


_WRITER = """
import sys
import time
from pathlib import Path
from models.atomic import write_bytes
path = Path(sys.argv[1])
print("ready", flush=True)
i = 0
while True:
    write_bytes(path, bytes([i % 256]) * 2_000_000)
    i += 1
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"\0" * 2_000_000)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        with writer.stdout:
            assert writer.stdout.readline() == b"ready\n"
            # Wait until it has replaced the file at least once, so that the kill falls into the loop. Not by the
            # inode, which a file system may give to the new file again; and asleep in between, on few cores.
            before = path.stat().st_mtime_ns
            while path.stat().st_mtime_ns == before:
                assert writer.poll() is None
                time.sleep(0.001)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        data = path.read_bytes()
        assert len(data) == 2_000_000
        assert len(set(data)) == 1
