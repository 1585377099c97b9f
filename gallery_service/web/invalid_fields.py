"""What is wrong with the fields of a request, for the person who sent it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gallery_service.errors import BadQuery

Body = TypeVar("Body", bound=BaseModel)

LARGEST_NUMBER = 2**31 - 1
"""Of a row, as both kinds of database keep it."""


def describe_invalid(errors: Sequence[Any]) -> str:
    """In words, each field with its problem.

    Args:
        errors: pydantic's.
    """
    return "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in errors)


def checked(body: type[Body], /, **fields: Any) -> Body:
    """A body of the API, of what somebody typed into a page.

    Raises:
        BadQuery: a field cannot be that.
    """
    try:
        return body(**fields)
    except ValidationError as error:
        raise BadQuery(describe_invalid(error.errors())) from None
