"""Clips are cut beside everything else: they take no thread that a search needs, and do not pile up."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fastapi.concurrency import run_in_threadpool

from gallery_service.errors import Busy, NotFound
from gallery_service.pictures.clip_queue import ClipQueue


def test_a_few_are_cut_a_few_wait_and_the_rest_come_again() -> None:
    release = threading.Event()
    cutting: list[int] = []
    most = 0

    def cut(number: int) -> bytes:
        nonlocal most
        cutting.append(number)
        most = max(most, len(cutting))
        release.wait(60)
        cutting.remove(number)
        return b"clip"

    async def page() -> list[bytes | BaseException]:
        queue = ClipQueue(at_once=2, waiting=50)
        wanted = [asyncio.create_task(queue.cut(lambda number=number: cut(number))) for number in range(60)]
        await asyncio.sleep(0)
        # The framework's own threads, of which there are 40, are free: here for as many searches at once.
        searches = [run_in_threadpool(threading.get_ident) for _ in range(40)]
        assert len(await asyncio.wait_for(asyncio.gather(*searches), 60)) == 40
        assert len(cutting) <= 2 and not release.is_set()
        release.set()
        found = await asyncio.gather(*wanted, return_exceptions=True)
        assert await queue.cut(lambda: b"later") == b"later"
        return list(found)

    found = asyncio.run(page())
    assert found[:52] == [b"clip"] * 52
    assert all(isinstance(answer, Busy) for answer in found[52:])
    assert most == 2


def test_one_that_fails_makes_room() -> None:
    def fails() -> bytes:
        raise NotFound("gone")

    async def page() -> None:
        queue = ClipQueue(at_once=1, waiting=0)
        for _ in range(3):
            with pytest.raises(NotFound):
                await queue.cut(fails)
        assert await queue.cut(lambda: b"clip") == b"clip"

    asyncio.run(page())
