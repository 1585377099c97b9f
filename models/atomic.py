"""Files and folders that are either whole or not there.

The protocol, for a file: write a temporary file in the same folder, fsync it, ``os.replace`` it over the final name,
fsync the folder. For a folder: fill a temporary folder beside the final one, fsync everything in it, rename it, fsync
the parent. A process killed at any point leaves the old state or the new one, and at most a temporary name that starts
with a dot, which no reader looks at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable (a rename is only on disk once its folder is)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it where they are missing, durably: a file that is on disk can only be found
    through the names of all its folders."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)  # somebody else may have been faster
    fsync_folder(folder.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, replacing what was there, so that a reader sees the old content or the new, never a
    part. The folder must exist."""
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        # Not tempfile: its files are 0600, and results should follow the umask like any other file.
        with temporary.open("xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8; see :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as JSON with sorted keys, one space of indent and a final newline, so that equal content is equal
    bytes. NaN and infinity are refused (ValueError): they are not JSON."""
    write_text(path, json.dumps(obj, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def publish_folder(tmp: Path, final: Path) -> None:
    """Turn the finished folder ``tmp`` into ``final``.

    Both must lie on the same file system. Raises FileExistsError when ``final`` is already there (published folders
    are immutable), and then leaves ``tmp`` as it is.
    """
    for folder, _, names in os.walk(tmp, topdown=False):
        for name in names:
            with (Path(folder) / name).open("rb") as handle:
                os.fsync(handle.fileno())
        fsync_folder(Path(folder))
    # rename() silently replaces an empty folder, hence the question first; a full one it refuses by itself.
    if final.exists():
        raise FileExistsError(f"{final}: already there; published folders are never replaced")
    try:
        tmp.rename(final)
    except OSError as error:
        if final.exists():
            raise FileExistsError(f"{final}: already there; published folders are never replaced") from error
        raise
    fsync_folder(final.parent)


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content, 64 hex digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
