from __future__ import annotations

import pytest

from gallery_service.errors import BadQuery
from gallery_service.pages.filter_form import FilterForm
from gallery_service.pages.site_clock import SiteClock
from gallery_service.search.site_search import SearchRequest

CLOCK = SiteClock("Europe/Berlin")
KNOWN = ("door", "hall", "lift", "yard")


def form(*fields: tuple[str, str], cameras: tuple[str, ...] = KNOWN) -> FilterForm:
    return FilterForm.read([*(("camera", camera) for camera in cameras), *fields], KNOWN)


def test_an_untouched_form_narrows_nothing() -> None:
    untouched = form(("since", ""), ("until", ""), ("min_quality", "0"), ("top_k", "20"), ("purpose", " "))
    assert untouched == FilterForm.empty(KNOWN)
    assert untouched.request(CLOCK) == SearchRequest()
    assert untouched.chips(CLOCK) == []


def test_every_filter_has_a_chip_that_takes_it_off() -> None:
    full = form(
        ("since", "2026-03-01T09:00"), ("until", "2026-03-01T10:00:30"), ("min_quality", "0.5"), ("top_k", "7"),
        ("rerank", "on"), ("purpose", "case 12"), cameras=("door", "hall", "lift"),
    )  # fmt: skip
    assert full.request(CLOCK) == SearchRequest(
        top_k=7, cameras=("door", "hall", "lift"), since="2026-03-01T08:00:00Z", until="2026-03-01T09:00:30.999999Z",
        rerank=True, purpose="case 12", min_quality=0.5,
    )  # fmt: skip
    assert [chip.label for chip in full.chips(CLOCK)] == [
        "not yard", "from 1 Mar 2026, 09:00:00", "to 1 Mar 2026, 10:00:30", "quality 0.5 or better",
    ]  # fmt: skip
    left = full
    for number, chip in enumerate(full.chips(CLOCK), 1):
        left = left.without(chip.key)
        assert left.chips(CLOCK) == full.chips(CLOCK)[number:]
    assert left == full.without("all")
    assert left.request(CLOCK) == SearchRequest(top_k=7, rerank=True, purpose="case 12")


def test_few_cameras_are_named_and_few_left_out_ones_are() -> None:
    two = form(cameras=("hall",))
    assert [(chip.key, chip.label) for chip in two.chips(CLOCK)] == [("camera:hall", "hall")]
    assert two.without("camera:hall") == FilterForm.empty(KNOWN)
    assert form(cameras=("door", "hall")).without("not:yard").cameras == ("door", "hall", "yard")
    assert form(cameras=("door", "cellar")).cameras == ("door",)  # not theirs to see, or not there


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([("since", "2026-03-01T10:00"), ("until", "2026-03-01T09:00")], "'To' lies before the one under 'From'"),
        ([("since", "soon")], "From: 'soon' is no date"),
        ([("until", "soon")], "To: 'soon' is no date"),
        ([("top_k", "0")], "Matches at most: choose a number from 1 to \\d+"),
        ([("top_k", "many")], "Matches at most: 'many' is not a number"),
        ([("min_quality", "best")], "Picture quality: 'best' is not a number"),
        ([("min_quality", "nan")], "Picture quality: 'nan' is not a number"),
        ([("top_k", "inf")], "Matches at most: 'inf' is not a number"),
    ],
)
def test_mistakes_are_told_in_the_words_of_the_form(fields: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        form(*fields).request(CLOCK)
    with pytest.raises(BadQuery, match="No camera is ticked"):
        form(cameras=()).request(CLOCK)


def test_a_span_in_the_hour_that_comes_twice_holds_both() -> None:
    asked = form(("since", "2026-10-25T02:30"), ("until", "2026-10-25T02:10")).request(CLOCK)
    assert (asked.since, asked.until) == ("2026-10-25T00:30:00Z", "2026-10-25T01:10:00.999999Z")
