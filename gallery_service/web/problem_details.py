"""Every error of the API in one form: problem details (RFC 9457).

`type` is about:blank, so `title` is the status in words and `detail` says what is wrong here and what to do about it.
The request's id, by which the log knows it, stands in the header X-Request-Id of every answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = 2  # while too much is being done, or the database is away


def problem_details(status: int, detail: str) -> dict[str, Any]:
    """The members of a problem.

    Args:
        status: of the answer.
        detail: for a person to read.
    """
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def when_to_come_again(status: int) -> dict[str, str]:
    """The header for it, where the problem is one of the moment."""
    return {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else {}


class ProblemAnswer(JSONResponse):
    """A problem as a response."""

    media_type = MEDIA_TYPE

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem_details(status, detail), status, headers)
