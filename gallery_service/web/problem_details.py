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


def problem_details(status: int, detail: str) -> dict[str, Any]:
    """The members of a problem.

    Args:
        status: of the answer.
        detail: for a person to read.
    """
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


class ProblemAnswer(JSONResponse):
    """A problem as a response."""

    media_type = MEDIA_TYPE

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem_details(status, detail), status, headers)
