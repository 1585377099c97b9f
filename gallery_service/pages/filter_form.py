"""The filters as the page's form has them: ticked cameras, times of the site's clock, and chips to take one off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gallery_service.errors import BadQuery
from gallery_service.pages.site_clock import SiteClock
from gallery_service.search.site_search import DEFAULT_TOP_K, SearchRequest

Fields = Sequence[tuple[str, str]]
"""Names and values of a form, in order; a name may come again."""

MAX_ON_A_PAGE = 200
"""Matches; a program may ask for more."""


@dataclass(frozen=True)
class Chip:
    """A filter that narrows an answer.

    Attributes:
        key: what `FilterForm.without` takes to take it off.
        label: in words.
    """

    key: str
    label: str


@dataclass(frozen=True)
class FilterForm:
    """What is set in the form.

    Attributes:
        known: the site's cameras that the caller may see.
        cameras: those ticked.
        since, until: as a datetime-local field writes them, by the site's clock; empty: not set.
        min_quality: 0..1, 0 for any.
        rerank, top_k, purpose: as in `SearchRequest`.
    """

    known: tuple[str, ...]
    cameras: tuple[str, ...]
    since: str = ""
    until: str = ""
    min_quality: float = 0.0
    rerank: bool = False
    top_k: int = DEFAULT_TOP_K
    purpose: str = ""

    @classmethod
    def empty(cls, known: Sequence[str]) -> FilterForm:
        """Nothing set."""
        return cls(tuple(known), tuple(known))

    @classmethod
    def read(cls, fields: Fields, known: Sequence[str]) -> FilterForm:
        """The form as it was sent.

        Raises:
            BadQuery: a number is none.
        """
        last = dict(fields)
        ticked = {value for name, value in fields if name == "camera"}
        return cls(
            known=tuple(known),
            cameras=tuple(camera for camera in known if camera in ticked),
            since=last.get("since", "").strip(),
            until=last.get("until", "").strip(),
            min_quality=float(_number(last.get("min_quality") or "0", "Picture quality")),
            rerank="rerank" in last,
            top_k=int(_number(last.get("top_k") or str(DEFAULT_TOP_K), "Matches at most")),
            purpose=last.get("purpose", "").strip(),
        )

    def without(self, key: str) -> FilterForm:
        """The same with one filter taken off; "all" takes off every one that has a chip."""
        empty = FilterForm.empty(self.known)
        if key == "all":
            return replace(empty, rerank=self.rerank, top_k=self.top_k, purpose=self.purpose)
        if key.startswith("camera:"):
            left = tuple(camera for camera in self.cameras if camera != key.removeprefix("camera:"))
            return replace(self, cameras=left or self.known)
        if key.startswith("not:"):
            wanted = {*self.cameras, key.removeprefix("not:")}
            return replace(self, cameras=tuple(camera for camera in self.known if camera in wanted))
        cleared: dict[str, FilterForm] = {
            "since": replace(self, since=""),
            "until": replace(self, until=""),
            "min_quality": replace(self, min_quality=0.0),
        }
        return cleared.get(key, self)

    def chips(self, clock: SiteClock) -> list[Chip]:
        """What narrows the answer, each to be taken off by itself."""
        out = [camera for camera in self.known if camera not in self.cameras]
        if len(out) <= len(self.cameras):
            chips = [Chip(f"not:{camera}", f"not {camera}") for camera in out]
        else:
            chips = [Chip(f"camera:{camera}", camera) for camera in self.cameras]
        if self.since:
            chips.append(Chip("since", f"from {clock.moment(clock.earliest(self.since, 'From'))}"))
        if self.until:
            chips.append(Chip("until", f"to {clock.moment(clock.latest(self.until, 'To'))}"))
        if self.min_quality:
            chips.append(Chip("min_quality", f"quality {self.min_quality:g} or better"))
        return chips

    def request(self, clock: SiteClock) -> SearchRequest:
        """The search that the form asks for.

        Raises:
            BadQuery: no camera is ticked, a time is none, or the span ends before it begins.
        """
        if not self.cameras:
            raise BadQuery("No camera is ticked; choose at least one.")
        if not 1 <= self.top_k <= MAX_ON_A_PAGE:
            raise BadQuery(f"Matches at most: choose a number from 1 to {MAX_ON_A_PAGE}.")
        since = clock.earliest(self.since, "From") if self.since else None
        until = clock.latest(self.until, "To") if self.until else None
        if since and until and since > until:
            raise BadQuery("The time under 'To' lies before the one under 'From'; swap them.")
        return SearchRequest(
            top_k=self.top_k,
            cameras=() if self.cameras == self.known else self.cameras,
            since=since,
            until=until,
            rerank=self.rerank,
            purpose=self.purpose or None,
            min_quality=self.min_quality or None,
        )


def _number(text: str, field: str) -> float:
    try:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        raise BadQuery(f"{field}: {text[:20]!r} is not a number.") from None
