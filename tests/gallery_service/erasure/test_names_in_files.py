"""Looking for names in files: all are found, and a database that is in use comes to no harm."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gallery_service.erasure import names_in_files as module
from gallery_service.erasure.names_in_files import names_in_files

_WRITE_AND_LEAVE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("INSERT INTO t VALUES ('theirs')")
connection.close()
"""
_READ = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT * FROM t").fetchall())
"""


def test_names_are_found_wherever_they_stand(tmp_path: Path) -> None:
    first, second, empty = (tmp_path / name for name in ("first", "zweite \udcff", "empty"))
    across = b"x" * ((8 << 20) - 5) + b"cam1/ab/7"  # over the end of what is read at a time
    first.write_bytes(b"\0cam1/ab/12\xffcam1/ab/123" + across)
    second.write_bytes(b"cam2/cd/1 cam1/ab/1")
    empty.write_bytes(b"")
    names = {"cam1/ab/12", "cam1/ab/7", "cam1/ab/9", "cam2/cd/1"}
    assert names_in_files([first, second, empty], names) == [{"cam1/ab/12", "cam1/ab/7"}, {"cam2/cd/1"}, set()]
    assert names_in_files([first], set()) == [set()]
    assert names_in_files([], names) == []
    assert names_in_files([tmp_path / "gone", second], names) == [set(), {"cam2/cd/1"}]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder"):
        names_in_files([first, tmp_path / "folder"], names)


def test_a_database_that_is_open_here_stays_locked(tmp_path: Path) -> None:
    """Else who closes it elsewhere deletes its log, and what is written here afterwards is lost."""
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES ('cam1/ab/1')")
        files = sorted(tmp_path.iterdir())
        assert len(files) == 3
        found = names_in_files(files, {"cam1/ab/1"})
        assert set.union(*found) == {"cam1/ab/1"}
        subprocess.run([sys.executable, "-c", _WRITE_AND_LEAVE, str(path)], check=True)
        connection.execute("INSERT INTO t VALUES ('mine')")
        seen = subprocess.run([sys.executable, "-c", _READ, str(path)], check=True, capture_output=True, text=True)
        assert "theirs" in seen.stdout and "mine" in seen.stdout


def test_it_needs_nothing_but_python() -> None:
    text = Path(module.__file__).read_text(encoding="utf-8")
    assert "from gallery_service" not in text and "from ingest" not in text and "from models" not in text
