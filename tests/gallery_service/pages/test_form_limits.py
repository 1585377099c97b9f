"""What pages send that the API would refuse is refused with the field's name, not an error inside."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.gallery_service.conftest import RunningService

CASES = "/api/v1/sites/toy/investigations"
HUGE = 10**19


@pytest.fixture
def case(service: RunningService) -> Iterator[tuple[httpx.Client, str]]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        made = client.post(CASES, json={"title": "Grey jacket", "purpose": "case 12"}).json()["investigation_id"]
        yield client, made
        client.delete(f"{CASES}/{made}")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"title": " "}, "title"),
        ({"title": ""}, "title"),
        ({"status": ""}, "status"),
        ({"body": "x"}, "body"),
        ({"purpose": "p" * 501}, "purpose"),
        ({"notes": "n" * 20_001}, "notes"),
        ({"shared_with": " ".join(f"user{number}" for number in range(101))}, "shared_with"),
    ],
)
def test_a_change_of_an_investigation(case: tuple[httpx.Client, str], fields: dict[str, str], named: str) -> None:
    client, investigation = case
    refused = client.post(f"/sites/toy/investigations/{investigation}", data=fields)
    assert (refused.status_code, named in refused.text) == (422, True)
    assert client.get(f"{CASES}/{investigation}").json()["title"] == "Grey jacket"


def test_numbers_that_no_row_can_have(case: tuple[httpx.Client, str]) -> None:
    client, investigation = case
    base = f"{CASES}/{investigation}"
    answers = [
        client.delete(f"{base}/erased-hits/{HUGE}"),
        client.get(f"{base}/queries/{'0' * 32}/images/{HUGE}"),
        client.post(f"/sites/toy/investigations/{investigation}/hits", data={"hit": str(HUGE)}),
    ]
    assert [answer.status_code for answer in answers] == [422] * 3


def test_too_many_tracklets_to_erase(case: tuple[httpx.Client, str]) -> None:
    client, _ = case
    many = {"tracklets": " ".join(["cam1/a/1"] * 1001)}
    refused = client.post("/sites/toy/admin/erasures", data=many)
    assert (refused.status_code, "tracklets" in refused.text) == (422, True)
