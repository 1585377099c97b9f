"""Where a recording lies: in a file here (or on a share mounted here), or as an object in an S3 store.

Both are paths: `Path`, or universal_pathlib's `UPath`, which reaches the store through fsspec and s3fs. Address and
keys of the store are those of every S3 program: AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID and so on.
"""

from __future__ import annotations

import errno
import glob
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

if TYPE_CHECKING:
    from upath import UPath

RecordingPath: TypeAlias = "Path | UPath"
_SCHEME = "s3://"
_BLOCK = 8 << 20
"""Bytes asked of the store at once."""


class StoreError(OSError):
    """The store cannot be reached, or does not let us in. It says nothing about the recording."""

    def __str__(self) -> str:
        return str(self.strerror)  # without a number that nobody knows


def in_store(written: str) -> bool:
    """Whether a path of site.yaml names objects of a store."""
    return written.startswith(_SCHEME)


def find_objects(written: str) -> list[RecordingPath]:
    """The objects that a path or pattern of site.yaml names. A plain path is returned unasked.

    Raises:
        StoreError: the store does not answer.
    """
    if not glob.has_magic(written):
        return [_object(written)]
    parts = written.removeprefix(_SCHEME).split("/")
    plain = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    if plain == 0:
        raise StoreError(errno.EINVAL, f"{written}: name the bucket; only what follows it may be a pattern")
    with _told(written):
        return list(_object(_SCHEME + "/".join(parts[:plain])).glob("/".join(parts[plain:])))


def identity(path: RecordingPath) -> str:
    """The same for all names of one file."""
    # Unlike resolve, no error for a link that leads to itself.
    return os.path.realpath(path) if isinstance(path, Path) else str(path)


def is_file(path: RecordingPath) -> bool:
    """Whether it is there. False for a dead mount and a store that does not answer."""
    if isinstance(path, Path):
        return os.path.isfile(path)  # noqa: PTH113 Path.is_file raises for a dead mount
    try:
        file_stamp(path)
    except OSError:
        return False
    return True


def file_stamp(path: RecordingPath) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds: equal as long as nobody writes to it.

    Raises:
        OSError: there is no such file.
        StoreError: the store does not answer.
    """
    if isinstance(path, Path):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    with _told(str(path)):
        found = path.stat()
    return int(found.st_size), int(found.st_mtime_ns)


def open_recording(path: RecordingPath) -> BinaryIO:
    """The file, for reading.

    Raises:
        OSError: there is no such file.
        StoreError: the store does not answer. Reading may raise it, too.
    """
    if isinstance(path, Path):
        return path.open("rb")
    with _told(str(path)):
        return cast(BinaryIO, _ObjectReader(path))


class _ObjectReader(io.RawIOBase):
    """An object, read in blocks; what goes wrong is a `StoreError` and never looks like the recording's end."""

    def __init__(self, path: UPath) -> None:
        self._name = str(path)
        self._file: Any = path.open("rb", block_size=_BLOCK)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        try:
            with _told(self._name):
                return bytes(self._file.read(-1 if size is None else size))
        except FileNotFoundError:
            raise StoreError(errno.ENOENT, f"{self._name}: it was taken out of the store while it was read") from None

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _object(url: str) -> UPath:
    try:
        from upath import UPath
    except ImportError:
        raise StoreError(
            errno.ENOPKG, f"{url}: reading from an S3 store needs more packages; see 'Many machines' in the README"
        ) from None
    # Listings kept by s3fs would hide new recordings from a watch.
    return UPath(url, use_listings_cache=False)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Whatever the store's client raises, as one kind of error."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "no such object", name) from None
    except StoreError:
        raise
    except Exception as error:
        # botocore's errors have no class in common with those of s3fs.
        raise StoreError(
            errno.EIO, f"{name}: the store does not give it: {str(error).strip() or type(error).__name__}"
        ) from error
