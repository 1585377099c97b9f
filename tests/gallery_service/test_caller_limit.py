"""Limits per caller: the bucket by a clock of our own, and the answer over a real socket."""

from __future__ import annotations

import httpx
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.caller_limit import TokenBuckets
from ingest.site import SiteConfig

from .conftest import run_service


@given(st.integers(1, 20), st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab")), max_size=80))
def test_no_minute_allows_more_than_a_full_bucket_and_its_refill(
    per_minute: int, asks: list[tuple[float, str]]
) -> None:
    now = 0.0
    buckets = TokenBuckets(per_minute, lambda: now)
    allowed: dict[str, list[float]] = {"a": [], "b": []}
    for pause, name in asks:
        now += pause
        wait_s = buckets.wait_s(name)
        assert 0 <= wait_s <= 60 / per_minute
        if wait_s == 0:
            allowed[name].append(now)
    for times in allowed.values():
        for begin in times:
            assert sum(begin <= at < begin + 60 for at in times) <= 2 * per_minute


def test_waiting_as_long_as_told_is_enough_and_others_do_not_wait() -> None:
    now = 0.0
    buckets = TokenBuckets(3, lambda: now)
    assert [buckets.wait_s("a") for _ in range(3)] == [0, 0, 0]
    wait_s = buckets.wait_s("a")
    assert wait_s == 20
    assert buckets.wait_s("b") == 0
    now += 19.9
    assert buckets.wait_s("a") > 0
    now += 0.2
    assert buckets.wait_s("a") == 0


def test_who_asks_too_often_is_told_when_to_come_again(indexed_site: SiteConfig) -> None:
    few = {"CALR_SERVICE_REQUESTS_PER_MINUTE": "2"}
    with run_service(indexed_site.folder, env=few) as service, httpx.Client(base_url=service.url) as client:
        answers = [client.post("/api/v1/sites/toy/search") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [415, 415, 429]
        assert answers[2].headers["content-type"] == "application/problem+json"
        assert 1 <= int(answers[2].headers["retry-after"]) <= 30
        assert "2 searches" in answers[2].json()["detail"]
        assert client.get("/api/v1/sites/toy").status_code == 200
