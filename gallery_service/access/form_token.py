"""The CSRF token in the body of a form, found without reading more of it than must be.

A form without files is small and is read as a whole. One with files is not: its token has to be its first field, as the
pages of this service have it. What was read is handed on as if nobody had looked.
"""

from __future__ import annotations

import re
from collections import deque

from starlette.types import Message, Receive

from gallery_service.access import small_form

FIELD = "csrf"
_MULTIPART = "multipart/form-data"
_ENOUGH = 1024
# As browsers write it. Whoever is elsewhere does not know the token, however they write it down.
_FIRST_FIELD = re.compile(
    rb'--[^\r\n]{1,200}\r\ncontent-disposition: *form-data; *name="' + FIELD.encode() + rb'"\r\n\r\n([0-9a-f]{64})\r\n',
    re.IGNORECASE,
)


async def token_in_body(content_type: str, receive: Receive) -> tuple[str, Receive]:
    """The token in a request's body, empty where there is none, and how to read the body from then on.

    Args:
        content_type: of the request.
        receive: of the request; nothing was read from it.
    """
    if content_type.startswith(small_form.MEDIA_TYPE):
        body = await small_form.read_body(receive)
        if body is None:
            return "", receive
        return small_form.fields(body).get(FIELD, ""), small_form.replay(body, receive)
    if not content_type.startswith(_MULTIPART):
        return "", receive
    read: deque[Message] = deque()
    beginning = b""
    while len(beginning) < _ENOUGH:
        read.append(await receive())
        beginning += bytes(read[-1].get("body", b""))[:_ENOUGH]
        if read[-1]["type"] != "http.request" or not read[-1].get("more_body", False):
            break

    async def again() -> Message:
        return read.popleft() if read else await receive()

    found = _FIRST_FIELD.match(beginning)
    return "" if found is None else found[1].decode(), again
