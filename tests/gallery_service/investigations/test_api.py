"""Investigations over a real socket: from the first search to the timeline."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from gallery_service.databases.gallery import gallery_database
from gallery_service.investigations.tables import HitRow, QueryRow
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.images import encode_jpeg

from .. import synthetic
from ..conftest import copy_site, run_service

BASE = "/api/v1/sites/toy"
CASES = f"{BASE}/investigations"


@pytest.fixture(scope="module", params=["file", "server"])
def database(request: pytest.FixtureRequest, built_gallery: Path) -> Iterator[None]:
    """Rows lie in SQLite files, then in PostgreSQL."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "server":
            patch.setenv("CALR_DATABASE", request.getfixturevalue("postgres").new_database())
        yield


@pytest.fixture(scope="module")
def place(database: None, built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> SiteConfig:
    """The indexed site with a map."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("cases"))
    content = yaml.safe_load(site.file.read_text())
    for number, camera in enumerate(content["cameras"]):
        camera["position"] = [0.25 + 0.5 * number, 0.5]
    site.file.write_text(yaml.safe_dump(content | {"map": {"image": "plan.png"}}))
    Image.new("RGB", (40, 20)).save(site.folder / "plan.png")
    return site


@pytest.fixture(scope="module")
def client(place: SiteConfig) -> Iterator[httpx.Client]:
    with run_service(place.folder) as running, httpx.Client(base_url=running.url, timeout=120) as client:
        yield client


@pytest.fixture
def case(client: httpx.Client) -> str:
    """The address of a new investigation."""
    answer = client.post(CASES, json={"title": "Red jacket", "purpose": "case 12"})
    assert answer.status_code == 201, answer.text
    return f"{CASES}/{answer.json()['investigation_id']}"


def search(client: httpx.Client, person: int = 0, **params: Any) -> dict[str, Any]:
    crop = ("crop.jpg", encode_jpeg(synthetic.query_crop(person)), "image/jpeg")
    answer = client.post(f"{BASE}/search", files={"image": crop}, params={"top_k": 50, **params})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def decide(client: httpx.Client, case: str, tracklet_id: str, decision: str, **more: Any) -> httpx.Response:
    return client.put(f"{case}/hits/{tracklet_id}", json={"decision": decision, **more})


def number_of(case: str) -> str:
    return case.rsplit("/", 1)[1]


def test_an_investigation_begins_empty_and_can_be_changed(client: httpx.Client, case: str) -> None:
    begun = client.get(case).json()
    assert (begun["title"], begun["purpose"], begun["notes"], begun["status"]) == ("Red jacket", "case 12", "", "open")
    assert (begun["created_by"], begun["may_edit"], begun["may_manage"]) == ("local", True, True)
    assert (begun["query_list"], begun["hits"], begun["shared_with"]) == ([], [], [])
    changed = client.patch(case, json={"title": " Blue jacket ", "notes": "seen twice", "shared_with": ["ben", "ann"]})
    assert changed.status_code == 200
    kept = client.get(case).json()
    assert kept == changed.json()
    assert (kept["title"], kept["purpose"], kept["notes"]) == ("Blue jacket", "case 12", "seen twice")
    assert kept["shared_with"] == ["ann", "ben"]
    assert kept["changed_at"] > begun["changed_at"]
    assert client.patch(case, json={"shared_with": []}).json()["shared_with"] == []


def test_of_two_who_change_the_same_revision_at_once_the_second_is_refused(client: httpx.Client, case: str) -> None:
    revision = client.get(case).json()["revision"]
    found = search(client, investigation=number_of(case))
    decide(client, case, found["matches"][0]["tracklet_id"], "confirmed")
    assert client.get(case).json()["revision"] == revision, "who works on it is in nobody's way"

    def change(title: str) -> httpx.Response:
        return client.patch(case, json={"title": title, "revision": revision})

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(change, "abcd"))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    (kept,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert client.get(case).json() == kept
    assert kept["revision"] != revision
    refused = change("e").json()["detail"]
    assert "nothing was saved" in refused
    for field, value in {"purpose": "p", "notes": "n", "shared_with": ["ben"], "status": "closed"}.items():
        changed = client.patch(case, json={field: value, "revision": kept["revision"]}).json()
        assert changed["revision"] != kept["revision"], field
        kept = changed


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"title": "x"}, "purpose"), ({"title": " ", "purpose": "x"}, "title"), ({"title": "x", "purpose": ""}, "pur"),
        ({"title": "x" * 201, "purpose": "x"}, "title"), ({"title": "x", "purpose": "x", "owner": "me"}, "owner"),
        ({"title": "x", "purpose": "x", "investigation_id": "../1"}, "investigation_id"), ([], "dict"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_new_one_is_named(client: httpx.Client, body: object, named: str) -> None:
    answer = client.post(CASES, json=body)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]


def test_beginning_the_same_one_again_makes_no_second_one(client: httpx.Client) -> None:
    new = {"title": "Once", "purpose": "p", "investigation_id": "ab" * 16}
    first, second = client.post(CASES, json=new), client.post(CASES, json=new | {"title": "Twice"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    described = client.get("/openapi.json").json()["paths"]["/api/v1/sites/{site}/investigations"]["post"]["responses"]
    assert described["200"]["content"] == described["201"]["content"]


def test_pages_hold_every_investigation_once_newest_first(client: httpx.Client) -> None:
    begun = [client.post(CASES, json={"title": str(n), "purpose": "pages"}).json() for n in range(5)]
    client.patch(f"{CASES}/{begun[2]['investigation_id']}", json={"status": "closed"})

    def all_of(**params: str) -> list[str]:
        found, cursor = [], None
        while True:
            asked = {"limit": "2", **params} | ({} if cursor is None else {"cursor": cursor})
            page = client.get(CASES, params=asked).json()
            assert len(page["investigations"]) <= 2
            found += [one["title"] for one in page["investigations"] if one["purpose"] == "pages"]
            cursor = page["next"]
            if cursor is None:
                return found

    assert all_of() == ["4", "3", "2", "1", "0"]
    assert all_of(status="closed") == ["2"]
    assert all_of(status="open") == ["4", "3", "1", "0"]
    for wrong in ("x", "-1", "9" * 30, "²"):
        assert client.get(CASES, params={"cursor": wrong}).status_code == 422


def test_a_search_can_belong_to_an_investigation_and_no_picture_is_kept(
    client: httpx.Client, case: str, place: SiteConfig
) -> None:
    found = search(client, investigation=number_of(case), cameras="cam1")
    (query,) = client.get(case).json()["query_list"]
    assert (query["query_id"], query["kind"], query["images"]) == (found["query_id"], "image", 1)
    assert (query["asked_by"], query["model_version"]) == ("local", found["model_version"])
    assert query["filters"]["cameras"] == ["cam1"]
    assert (query["image_urls"], query["tracklet_id"], query["crop_url"]) == ([], None, None)
    assert client.get(f"{case}/queries/{query['query_id']}/images/0").status_code == 404
    by_tracklet = client.post(
        f"{BASE}/tracklets/{found['matches'][0]['tracklet_id']}/search", params={"investigation": number_of(case)}
    ).json()
    second = client.get(case).json()["query_list"][1]
    assert (second["query_id"], second["kind"]) == (by_tracklet["query_id"], "tracklet")
    assert second["tracklet_id"] == found["matches"][0]["tracklet_id"]
    assert client.get(second["crop_url"]).status_code == 200


def test_pictures_are_kept_where_that_is_asked_for_only_the_part_that_was_looked_at(
    client: httpx.Client, case: str
) -> None:
    frame = encode_jpeg(synthetic.frame_at(1, [synthetic.Walk(0, 0.0, 10.0)], 3.3))
    sent = [("image", ("a.jpg", frame, "image/jpeg")), ("image", ("b.jpg", frame, "image/jpeg"))]
    params = {"investigation": number_of(case), "keep_image": "true", "box": ["0,0,0.5,1", ""]}
    assert client.post(f"{BASE}/search", files=sent, params=params).status_code == 200
    (query,) = client.get(case).json()["query_list"]
    assert query["images"] == 2
    sizes = []
    for address in query["image_urls"]:
        answer = client.get(address)
        assert answer.headers["content-type"] == "image/jpeg"
        sizes.append(Image.open(io.BytesIO(answer.content)).size)
    assert sizes == [(synthetic.WIDTH // 2, synthetic.HEIGHT), (synthetic.WIDTH, synthetic.HEIGHT)]
    assert client.delete(f"{case}/queries/{query['query_id']}").status_code == 204
    assert client.get(query["image_urls"][0]).status_code == 404
    assert client.delete(f"{case}/queries/{query['query_id']}").status_code == 404


def test_a_picture_is_not_kept_without_an_investigation(client: httpx.Client) -> None:
    crop = ("crop.jpg", encode_jpeg(synthetic.query_crop(0)), "image/jpeg")
    answer = client.post(f"{BASE}/search", files={"image": crop}, params={"keep_image": "true"})
    assert answer.status_code == 422
    assert "investigation" in answer.json()["detail"]


def test_a_search_is_not_made_for_an_investigation_that_is_not_there(client: httpx.Client) -> None:
    crop = ("crop.jpg", encode_jpeg(synthetic.query_crop(0)), "image/jpeg")
    for wrong in ("0" * 32, "x", "' OR 1=1 --"):
        answer = client.post(f"{BASE}/search", files={"image": crop}, params={"investigation": wrong})
        assert answer.status_code == 404
        assert "investigation" in answer.json()["detail"]


def test_a_search_made_before_can_be_taken_in_and_twice_is_once(client: httpx.Client, case: str) -> None:
    found = search(client, 1)
    for _ in range(2):
        answer = client.post(f"{case}/queries", json={"query_id": found["query_id"]})
        assert (answer.status_code, answer.json()["query_id"]) == (201, found["query_id"])
    assert len(client.get(case).json()["query_list"]) == 1
    assert client.post(f"{case}/queries", json={"query_id": "0" * 32}).status_code == 404


def test_hits_are_confirmed_rejected_changed_and_taken_out(client: httpx.Client, case: str) -> None:
    found = search(client, 2, investigation=number_of(case))
    best, other = found["matches"][:2]
    answer = decide(client, case, best["tracklet_id"], "confirmed", note="gait", query_id=found["query_id"])
    assert answer.status_code == 200
    hit = answer.json()
    assert (hit["state"], hit["decision"], hit["note"]) == ("present", "confirmed", "gait")
    assert {
        name: hit[name] for name in ("tracklet_id", "camera_id", "first_seen", "last_seen", "crop_url", "clip_url")
    } == {name: best[name] for name in ("tracklet_id", "camera_id", "first_seen", "last_seen", "crop_url", "clip_url")}
    assert hit["score"] == pytest.approx(best["score"], abs=2e-5)
    assert (hit["query_id"], hit["model_version"]) == (found["query_id"], found["model_version"])
    assert decide(client, case, quote(other["tracklet_id"], safe=""), "rejected").json()["score"] is None
    again = decide(client, case, best["tracklet_id"], "undecided").json()
    assert (again["hit_id"], again["decision"], again["note"]) == (hit["hit_id"], "undecided", "gait")
    assert (again["score"], again["query_id"]) == (hit["score"], hit["query_id"])
    whole = client.get(case).json()
    assert [(one["tracklet_id"], one["decision"]) for one in whole["hits"]] == [
        (best["tracklet_id"], "undecided"),
        (other["tracklet_id"], "rejected"),
    ]
    assert (whole["confirmed"], whole["rejected"], whole["undecided"], whole["queries"]) == (0, 1, 1, 1)
    assert client.delete(f"{case}/hits/{best['tracklet_id']}").status_code == 204
    assert client.delete(f"{case}/hits/{best['tracklet_id']}").status_code == 404
    assert len(client.get(case).json()["hits"]) == 1


def test_a_note_stays_until_another_is_sent_and_a_score_with_its_query(
    client: httpx.Client, case: str, place: SiteConfig
) -> None:
    found = search(client, 2, investigation=number_of(case))
    tracklet_id = found["matches"][0]["tracklet_id"]
    decide(client, case, tracklet_id, "confirmed", note="gait", query_id=found["query_id"])
    assert decide(client, case, tracklet_id, "rejected", note="shoes").json()["note"] == "shoes"
    assert decide(client, case, tracklet_id, "rejected", note="").json()["note"] == ""
    first = client.get(case).json()["hits"][0]
    other = search(client, 3, investigation=number_of(case))
    second = decide(client, case, tracklet_id, "rejected", query_id=other["query_id"]).json()
    assert (second["query_id"], second["score"] != first["score"]) == (other["query_id"], True)
    # As if both were of another model: a query of it has no score, and a score of it stays one of it.
    engine = gallery_database(Workspace(place)).open()
    with engine.connect().execution_options(writes=True) as connection, Session(connection) as session:
        session.scalars(select(QueryRow).where(QueryRow.query_id == found["query_id"])).one().model_version = "another"
        session.scalars(select(HitRow).where(HitRow.query_id == other["query_id"])).one().model_version = "another"
        session.commit()
    engine.dispose()
    third = decide(client, case, tracklet_id, "confirmed").json()
    evidence = ("query_id", "score", "model_version")
    assert [third[name] for name in evidence] == [other["query_id"], second["score"], "another"]
    fourth = decide(client, case, tracklet_id, "confirmed", query_id=found["query_id"]).json()
    assert [fourth[name] for name in evidence] == [found["query_id"], None, found["model_version"]]


def test_the_same_decision_again_changes_nothing(client: httpx.Client, case: str) -> None:
    found = search(client, 2, investigation=number_of(case))
    best, other = (match["tracklet_id"] for match in found["matches"][:2])
    for sent in ({"note": "gait", "query_id": found["query_id"]}, {}):
        hit = decide(client, case, best, "confirmed", **sent).json()
        decide(client, case, other, "rejected")
        before = client.get(case).json(), client.get(f"{BASE}/audit").json()["entries"][0]["hash"]
        assert decide(client, case, best, "confirmed", **sent).json() == hit
        assert (client.get(case).json(), client.get(f"{BASE}/audit").json()["entries"][0]["hash"]) == before


def test_what_cannot_be_decided_about_is_named(client: httpx.Client, case: str) -> None:
    found = search(client)
    tracklet_id = found["matches"][0]["tracklet_id"]
    for answer, status, named in [
        (decide(client, case, "cam1/none/000001", "confirmed"), 404, "cam1/none/000001"),
        (decide(client, case, tracklet_id, "perhaps"), 422, "decision"),
        (decide(client, case, tracklet_id, "confirmed", note="x" * 2001), 422, "note"),
        (decide(client, case, tracklet_id, "confirmed", query_id=found["query_id"]), 404, "query"),
        (decide(client, f"{CASES}/{'0' * 32}", tracklet_id, "confirmed"), 404, "investigation"),
    ]:
        assert answer.status_code == status, answer.text
        assert named in answer.json()["detail"]
    assert client.get(case).json()["hits"] == []


def test_a_refined_search_uses_what_was_confirmed_and_leaves_out_what_was_decided(
    client: httpx.Client, case: str
) -> None:
    nothing = client.post(f"{case}/search")
    assert (nothing.status_code, "confirm a hit" in nothing.json()["detail"]) == (409, True)
    found = search(client, 3, investigation=number_of(case))
    confirmed, rejected, undecided = (match["tracklet_id"] for match in found["matches"][:3])
    decide(client, case, confirmed, "confirmed")
    decide(client, case, rejected, "rejected")
    decide(client, case, undecided, "undecided")
    refined = client.post(f"{case}/search", params={"top_k": 50}).json()
    names = [match["tracklet_id"] for match in refined["matches"]]
    assert sorted(names) == sorted(
        match["tracklet_id"] for match in found["matches"] if match["tracklet_id"] not in (confirmed, rejected)
    )
    before = {match["tracklet_id"]: match["score"] for match in found["matches"]}
    assert any(abs(match["score"] - before[match["tracklet_id"]]) > 1e-4 for match in refined["matches"])
    whole = client.get(case).json()
    assert [query["kind"] for query in whole["query_list"]] == ["image", "refined"]
    # It is a search like any other: filters hold, and a hit can be found by it.
    only = client.post(f"{case}/search", params={"cameras": "cam2"}).json()
    assert {match["camera_id"] for match in only["matches"]} == {"cam2"}
    assert decide(client, case, names[0], "confirmed", query_id=refined["query_id"]).status_code == 200


def test_the_timeline_is_the_confirmed_hits_in_order_with_the_cameras_on_the_map(
    client: httpx.Client, case: str
) -> None:
    found = search(client, 4)["matches"]
    dated = [match for match in found if match["first_seen"]]
    undated = next(match for match in found if not match["first_seen"])
    first, second = (next(m for m in dated if m["camera_id"] == camera) for camera in ("cam1", "cam2"))
    rejected = next(match for match in dated if match not in (first, second))
    for match, decision in (
        (second, "confirmed"),
        (undated, "confirmed"),
        (first, "confirmed"),
        (rejected, "rejected"),
    ):
        assert decide(client, case, match["tracklet_id"], decision).status_code == 200
    line = client.get(f"{case}/timeline").json()
    assert [one["tracklet_id"] for one in line["sightings"]] == [first["tracklet_id"], second["tracklet_id"]]
    assert [one["tracklet_id"] for one in line["undated"]] == [undated["tracklet_id"]]
    assert line["sightings"][0]["gap_s"] is None
    gap = line["sightings"][1]["gap_s"]
    assert 500 < gap < 700
    assert line["moves"] == [
        {"from": "cam1", "to": "cam2", "left": first["last_seen"], "arrived": second["first_seen"], "gap_s": gap}
    ]
    assert [(camera["camera_id"], camera["position"], camera["sightings"]) for camera in line["cameras"]] == [
        ("cam1", [0.25, 0.5], 1),
        ("cam2", [0.75, 0.5], 2),
    ]
    assert line["cameras"][1]["first_seen"] == second["first_seen"]
    assert client.get(line["map_url"]).headers["content-type"] == "image/png"


def test_an_export_holds_the_report_and_the_pictures_of_those_who_were_not_rejected(
    client: httpx.Client, case: str
) -> None:
    found = search(client, 2, investigation=number_of(case))["matches"]
    title = "<script>alert(1)</script> & co"
    client.patch(case, json={"title": title, "notes": "</style><b>bold</b>"})
    decisions = ("confirmed", "rejected", "undecided")
    hits = [
        decide(client, case, match["tracklet_id"], decision, note=f"note {decision}").json()
        for match, decision in zip(found, decisions, strict=False)
    ]
    answer = client.get(f"{case}/export")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        pictures = {f"crops/{hits[number]['hit_id']:06d}.jpg": hits[number] for number in (0, 2)}
        assert set(archive.namelist()) == {"report.html", "investigation.json", *pictures}
        for name, hit in pictures.items():
            assert archive.read(name) == client.get(hit["crop_url"]).content
        content = json.loads(archive.read("investigation.json"))
        assert content["investigation"]["title"] == title
        assert [hit["decision"] for hit in content["investigation"]["hits"]] == list(reversed(decisions))
        report = archive.read("report.html").decode()
    assert "<script" not in report
    assert "<b>" not in report
    assert "&lt;script&gt;" in report
    assert "note confirmed" in report
    assert "note rejected" not in report
    if found[0]["first_seen"]:
        assert "+01:00" in report  # the site's own time


def test_a_closed_investigation_is_read_but_not_worked_on(client: httpx.Client, case: str) -> None:
    found = search(client, investigation=number_of(case))
    tracklet_id = found["matches"][0]["tracklet_id"]
    decide(client, case, tracklet_id, "confirmed")
    closed = client.patch(case, json={"status": "closed"}).json()
    assert (closed["may_edit"], closed["may_manage"]) == (False, True)
    for answer in (
        decide(client, case, tracklet_id, "rejected"), client.delete(f"{case}/hits/{tracklet_id}"),
        client.post(f"{case}/search"), client.post(f"{case}/queries", json={"query_id": found["query_id"]}),
        client.delete(f"{case}/queries/{found['query_id']}"), client.delete(f"{case}/erased-hits/1"),
    ):  # fmt: skip
        assert (answer.status_code, "closed" in answer.json()["detail"]) == (409, True)
    assert len(client.get(f"{case}/timeline").json()["sightings"]) == 1
    assert client.patch(case, json={"status": "open"}).json()["may_edit"] is True


def test_deleting_an_investigation_deletes_all_of_it(client: httpx.Client, case: str, place: SiteConfig) -> None:
    crop = ("crop.jpg", encode_jpeg(synthetic.query_crop(0)), "image/jpeg")
    params = {"investigation": number_of(case), "keep_image": "true"}
    found = client.post(f"{BASE}/search", files={"image": crop}, params=params).json()
    decide(client, case, found["matches"][0]["tracklet_id"], "confirmed")
    client.patch(case, json={"shared_with": ["ann"]})
    engine = gallery_database(Workspace(place)).open()

    def counted(table: str, condition: str) -> int:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE {condition}").scalar_one())

    with engine.connect() as connection:
        row = f"SELECT number FROM investigations WHERE investigation_id = '{number_of(case)}'"
        number = connection.exec_driver_sql(row).scalar_one()
    tables = [f"investigation_{name}" for name in ("readers", "queries", "pictures", "hits")]

    def rows() -> list[int]:
        return [counted(table, f"investigation = {number}") for table in tables]

    assert rows() == [1, 1, 1, 1]
    assert client.delete(case).status_code == 204
    assert rows() == [0, 0, 0, 0]
    engine.dispose()
    for answer in (client.get(case), client.delete(case), client.get(f"{case}/timeline"), client.patch(case, json={})):
        assert answer.status_code == 404
