"""Limits per caller: the bucket by a clock of our own, and the answer over a real socket."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from gallery_service.caller import LOCAL
from gallery_service.web.caller_limit import CallerLimit, TokenBuckets
from ingest.site import SiteConfig
from tests.gallery_service.conftest import run_service


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


def test_who_asks_more_at_once_than_they_may_is_told_and_may_again_afterwards() -> None:
    async def ask() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await go_on.wait()
            if scope["path"] == "/broken":
                raise RuntimeError
            await PlainTextResponse("done")(scope, receive, send)

        limited = CallerLimit(slow, per_minute=100, at_once=1)

        async def as_caller(scope: Scope, receive: Receive, send: Send) -> None:
            name = dict(scope["headers"])[b"x-name"].decode()
            await limited({**scope, "state": {"caller": replace(LOCAL, name=name)}}, receive, send)

        transport = httpx.ASGITransport(as_caller, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            for path in ("/broken", "/"):  # one that fails gives its place back, too
                first = asyncio.create_task(client.post(path, headers={"x-name": "a"}))
                await begun.wait()
                second = await client.post("/", headers={"x-name": "a"})
                assert second.status_code == 429
                assert second.headers["retry-after"] == "1"
                others = asyncio.create_task(client.post("/", headers={"x-name": "b"}))
                looking = asyncio.create_task(client.get("/", headers={"x-name": "a"}))
                go_on.set()
                answers = [one.status_code for one in await asyncio.gather(first, others, looking)]
                assert answers == [500 if path == "/broken" else 200, 200, 200]
                begun.clear()
                go_on.clear()

    asyncio.run(ask())
