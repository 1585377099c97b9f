"""Finding the CSRF token in a body, in whatever pieces that comes, and handing the body on whole."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from gallery_service.access.form_token import token_in_body

TOKEN = "0123456789abcdef" * 4
MULTIPART = "multipart/form-data; boundary=xx"
FORM = (
    f'--xx\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{TOKEN}\r\n'
    '--xx\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
).encode() + bytes(5000)


def look(content_type: str, pieces: list[bytes]) -> tuple[str, bytes, int]:
    """The token, the body as it is read afterwards, and how many pieces had been read when the token was known."""
    left: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    total = len(left)

    async def receive() -> Message:
        return left.pop(0)

    async def run() -> tuple[str, bytes, int]:
        token, again = await token_in_body(content_type, receive)
        looked_at, body = total - len(left), b""
        while True:
            message = await again()
            body += message["body"]
            if not message["more_body"]:
                return token, body, looked_at

    return asyncio.run(run())


@given(st.lists(st.integers(0, len(FORM)), max_size=20))
def test_however_a_form_comes_its_token_is_found_and_nothing_of_it_is_lost(cuts: list[int]) -> None:
    ends = [*sorted(cuts), len(FORM)]
    pieces = [FORM[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    token, body, _ = look(MULTIPART, pieces)
    assert (token, body) == (TOKEN, FORM)


def test_no_more_is_read_than_must_be() -> None:
    _, body, looked_at = look(MULTIPART, [FORM, *[bytes(100_000)] * 20])
    assert looked_at == 1
    assert len(body) == len(FORM) + 2_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        FORM.replace(b"csrf", b"other"),
        FORM.replace(b'"csrf"', b'"csrf"; filename="x"'),
        FORM.replace(TOKEN.encode(), TOKEN[:-1].encode()),
        FORM.replace(TOKEN.encode(), TOKEN.encode() + b"0"),
        b"\r\n" + FORM,
        bytes(3000) + FORM,
        b'--xx\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' + FORM,
    ],
)
def test_a_body_without_it_at_the_beginning_has_none_and_goes_on_as_it_is(body: bytes) -> None:
    assert look(MULTIPART, [body])[:2] == ("", body)
    assert look("application/json", [FORM])[:2] == ("", FORM)
