"""The fields of a form without files, read within a bound."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.types import Message, Receive

MEDIA_TYPE = "application/x-www-form-urlencoded"
MAX_BYTES = 64 * 1024


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None when it is longer than `MAX_BYTES` or the client left."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def fields(body: bytes) -> dict[str, str]:
    """The fields, the first value of each."""
    try:
        parsed = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return {}
    return {name: values[0] for name, values in parsed.items()}


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out a body again that was read."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
