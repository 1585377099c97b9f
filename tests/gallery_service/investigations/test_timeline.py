"""Hits in the order of time."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gallery_service.investigations.timeline import Seen, moves, place


@st.composite
def sightings(draw: st.DrawFn) -> list[Seen]:
    found = []
    for number in range(draw(st.integers(0, 8))):
        first = draw(st.none() | st.integers(0, 50))
        last = None if first is None else first + draw(st.integers(0, 20))
        found.append(Seen(number, draw(st.sampled_from("abc")), first, last))
    return draw(st.permutations(found))


@given(sightings())
def test_every_hit_is_placed_once_in_order_with_the_gap_before_it(hits: list[Seen]) -> None:
    placed, undated = place(hits)
    assert sorted([one.seen for one in placed] + undated, key=lambda seen: seen.hit_id) == sorted(
        hits, key=lambda seen: seen.hit_id
    )
    assert all(seen.first_seen is None for seen in undated)
    assert [one.begin for one in placed] == sorted(one.begin for one in placed)
    for number, one in enumerate(placed):
        assert one.gap_us == (None if number == 0 else one.begin - placed[number - 1].end)


@given(sightings())
def test_moves_lead_from_camera_to_camera_along_the_timeline(hits: list[Seen]) -> None:
    placed, _ = place(hits)
    cameras = [one.seen.camera_id for one in placed]
    went = moves(placed)
    assert len(went) == sum(a != b for a, b in itertools.pairwise(cameras))
    for move, following in itertools.pairwise(went):
        assert move.end_camera == following.begin_camera
    assert place(list(reversed(hits))) == place(hits)
