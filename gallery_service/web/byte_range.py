"""HTTP Range of one span of bytes (RFC 9110 section 14), which is what a video player asks for."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class RangeNotSatisfiable(ValueError):  # noqa: N818 the name HTTP has for it
    """The span begins behind the end."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Which bytes are asked for.

    Args:
        header: the Range header, None when there is none.
        size: of the whole, in bytes.

    Returns:
        First and last byte, both included; None: send the whole (no header, several spans, or one that is not
        understood, all of which the RFC lets a server ignore).

    Raises:
        RangeNotSatisfiable: no byte of the span exists.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        if int(last) == 0 or size == 0:
            raise RangeNotSatisfiable
        return max(0, size - int(last)), size - 1
    begin, end = int(first), int(last) if last else size - 1
    if last and end < begin:
        return None
    if begin >= size:
        raise RangeNotSatisfiable
    return begin, min(end, size - 1)
