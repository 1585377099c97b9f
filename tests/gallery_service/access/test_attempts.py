"""How often signing in may fail, by a clock of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from gallery_service.access.attempts import PER_ADDRESS, PER_NAME, WHILE_S, Attempts
from gallery_service.errors import TooManyAttempts


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def tries(attempts: Attempts, times: int, name: str = "anna", address: str = "a") -> int:
    """How many of so many attempts may be made."""
    made = 0
    for _ in range(times):
        try:
            attempts.begin(name, address)
            made += 1
        except TooManyAttempts:
            pass
    return made


def test_a_name_is_closed_from_every_address_until_time_has_passed() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    assert tries(attempts, PER_NAME + 5) == PER_NAME
    assert tries(attempts, 1, address="b") == 0
    assert tries(attempts, 1, name="eve", address="b") == 1
    with pytest.raises(TooManyAttempts, match="15 minutes"):
        clock.now += 60
        attempts.begin("anna", "b")
    clock.now += WHILE_S - 60
    assert tries(attempts, 1) == 1


def test_an_address_is_closed_for_every_name() -> None:
    attempts = Attempts(Clock())
    assert sum(tries(attempts, 1, name=f"user{n}") for n in range(PER_ADDRESS + 9)) == PER_ADDRESS
    assert tries(attempts, 1, name="anna", address="b") == 1


def test_success_forgives_the_name_but_not_the_address() -> None:
    attempts = Attempts(Clock())
    for _ in range(PER_ADDRESS - 1):
        attempts.begin("guess", "a")
        attempts._failures.pop(("name", "guess"))
    for _ in range(50):
        attempts.begin("anna", "a")
        attempts.succeeded("anna", "a")
    assert tries(attempts, 1, name="other") == 1
    assert tries(attempts, 1, name="anna") == 0, "whoever knows one password may not guess others for ever"


def test_many_at_once_are_not_one() -> None:
    attempts = Attempts(Clock())
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: tries(attempts, 1), range(60))) == PER_NAME
