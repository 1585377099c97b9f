"""Spans of bytes against slicing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.web.byte_range import RangeNotSatisfiable, parse_range

SIZES = st.integers(0, 40)


@given(SIZES, st.integers(0, 50), st.none() | st.integers(0, 50))
def test_from_a_byte_on(size: int, begin: int, end: int | None) -> None:
    content = bytes(range(size))
    header = f"bytes={begin}-{'' if end is None else end}"
    if end is not None and end < begin:
        assert parse_range(header, size) is None
    elif begin >= size:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, size)
    else:
        span = parse_range(header, size)
        assert span is not None
        assert content[span[0] : span[1] + 1] == content[begin : None if end is None else end + 1]


@given(SIZES, st.integers(0, 50))
def test_the_last_bytes(size: int, count: int) -> None:
    if count == 0 or size == 0:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(f"bytes=-{count}", size)
    else:
        span = parse_range(f"bytes=-{count}", size)
        assert span is not None
        assert bytes(range(size))[span[0] : span[1] + 1] == bytes(range(size))[-count:]


@pytest.mark.parametrize(
    "header", [None, "", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "items=0-1", "bytes=1", "bytes=" + "9" * 400 + "-"]
)
def test_what_is_not_understood_sends_the_whole(header: str | None) -> None:
    assert parse_range(header, 10) is None
