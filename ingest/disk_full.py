"""A full disk, told apart from everything else that can go wrong with a recording.

It says nothing about the recording at hand, and would be the same with every other: the run stops, nothing is set
aside, and the same command goes on when there is room again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(ValueError):  # noqa: N818 a state of the disk, met by making room
    """There is no room left, or none that this user may take."""


@contextmanager
def disk_full_said(folder: Path) -> Iterator[None]:
    """Turn the operating system's error into `DiskFull`.

    Args:
        folder: that is written into, for the message.

    Raises:
        DiskFull: see there.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(
            f"{folder}: no space left on its disk; make room and run the same command again: "
            "recordings that are in stay in, the rest follows"
        ) from error
