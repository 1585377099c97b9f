"""How a right is written: `lobby/entrance` for a camera, `lobby` for all cameras of a site, `*` for everything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gallery_service.caller import ALL_CAMERAS
from gallery_service.errors import BadQuery

EVERYTHING = ("*", ALL_CAMERAS)
_RIGHT = re.compile(r"([a-z0-9-]{1,40})(?:/([A-Za-z0-9_-]{1,40}|\*))?")


def parse_right(text: str) -> tuple[str, str]:
    """Site and camera of a right.

    Raises:
        BadQuery: it is not written like one.
    """
    if text == "*":
        return EVERYTHING
    found = _RIGHT.fullmatch(text)
    if found is None:
        raise BadQuery(
            f"{text[:90]!r} is not a right; write SITE/CAMERA, SITE for all its cameras, or '*' for everything"
        )
    return found[1], found[2] or ALL_CAMERAS


def format_right(right: tuple[str, str]) -> str:
    """A right as it is written."""
    site, camera = right
    return site if camera == ALL_CAMERAS else f"{site}/{camera}"


def rights_by_site(rights: Iterable[tuple[str, str]]) -> Mapping[str, frozenset[str]] | None:
    """Rights as `Caller` has them."""
    by_site: dict[str, set[str]] = {}
    for right in rights:
        if right == EVERYTHING:
            return None
        by_site.setdefault(right[0], set()).add(right[1])
    return {site: frozenset(cameras) for site, cameras in by_site.items()}
