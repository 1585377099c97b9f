"""Every route, role and foreign camera, from a table made of the application's own routes.

A new route without a rule does not get this far: the application refuses to start with it.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, Depends
from fastapi.routing import iter_route_contexts

from gallery_service.access.database import ACCESS
from gallery_service.access.identity import Identities
from gallery_service.access.rules import OPEN, refuse_routes_without_a_rule, rule_of
from gallery_service.caller import Caller, Role, caller_of
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.settings import ServiceSettings
from gallery_service.web.app import create_app
from models.images import encode_jpeg

from .. import synthetic
from .conftest import GuardedService

Table = list[tuple[str, str, Role | None]]
ROLES = list(Role)
PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Method, path and rule of every route."""
    app = create_app(
        [], ServiceSettings(), Identities(SqliteFile(tmp_path_factory.mktemp("none") / "service.sqlite", ACCESS))
    )
    rows: Table = []
    for route in iter_route_contexts(app.routes):
        path = f"{route.path}/style.css" if route.path == "/static" else str(route.path)
        rows += [(method, path, rule_of(route)) for method in sorted(route.methods or {"GET"}) if method != "HEAD"]
    return rows


OF_EVERYTHING = "/users"
"""What only admins who may see every site are let in to, which none here is; see test_users_page."""
SIGN_IN = ("POST", "/sign-in", None)
"""Refuses in its own way; see test_sign_in."""


@pytest.fixture(scope="module")
def tracklets(guarded: GuardedService) -> dict[str, str]:
    """A tracklet of each camera, with a clip."""
    files = {"image": ("crop.jpg", encode_jpeg(synthetic.query_crop(0)), "image/jpeg")}
    with guarded.client("investigator") as client:
        matches = client.post("/api/v1/sites/toy/search", files=files).json()["matches"]
    return {match["camera_id"]: match["tracklet_id"] for match in matches if match["clip_url"]}


def address(path: str, tracklet: str, site: str = "toy") -> str:
    """A route's path with its places filled in."""
    path = path.replace("{site}", site).replace("{tracklet_id:path}", tracklet).replace("{tracklet_id}", tracklet)
    path = re.sub(r"\{\w*(number|hit_id)\w*\}", "0", path)
    return re.sub(r"\{\w+(:\w+)?\}", "0" * 32, path)


def ask(client: httpx.Client, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    body = {} if method in ("POST", "PUT", "PATCH") else None
    return client.request(method, path, json=body, headers=headers)


def test_the_table_is_of_everything_that_is_there(table: Table) -> None:
    paths = {path for _, path, _ in table}
    assert {"/", "/metrics", "/healthz", "/openapi.json", "/sites/{site}", "/static/style.css"} <= paths
    assert {"/api/v1/sites/{site}/search", "/api/v1/sites/{site}/audit"} <= paths
    open_ones = {path.removesuffix("/style.css") for _, path, rule in table if rule is None}
    assert open_ones == OPEN, "nobody opens a route by the way"
    unguarded = {path for method, path, rule in table if rule is None and method not in ("GET", "HEAD")}
    assert unguarded == {"/sign-in"}


def test_strangers_get_no_further_than_the_open_routes(
    guarded: GuardedService, table: Table, tracklets: dict[str, str]
) -> None:
    with guarded.client() as client:
        for method, path, rule in (row for row in table if row != SIGN_IN):
            where = address(path, tracklets["cam1"])
            answer = ask(client, method, where)
            assert (answer.status_code == 401) == (rule is not None), (method, path, answer.status_code)
            if rule is not None:
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            if method == "GET" and rule is not None:
                page = ask(client, method, where, PAGE)
                assert page.status_code == 303
                assert page.headers["Location"].startswith("/sign-in?next=/")
        assert ask(client, "GET", "/nothing/here").status_code == 401, "nor learn what is there"


@pytest.mark.parametrize("role", ROLES)
def test_every_route_is_for_its_role_and_those_above(
    guarded: GuardedService, table: Table, tracklets: dict[str, str], role: Role
) -> None:
    with guarded.client(role) as client:
        for method, path, rule in (row for row in table if row != SIGN_IN):
            answer = ask(client, method, address(path, tracklets["cam1"]))
            allowed = rule is None or ROLES.index(role) >= ROLES.index(rule)
            allowed = allowed and not path.startswith(OF_EVERYTHING)
            assert (answer.status_code != 403) == allowed, (method, path, answer.status_code, answer.text[:200])
            assert answer.status_code != 401
            assert answer.status_code < 500, (method, path, answer.text[:200])


@pytest.mark.parametrize("role", ROLES)
def test_a_foreign_site_is_not_there(
    guarded: GuardedService, table: Table, tracklets: dict[str, str], role: Role
) -> None:
    """Whatever the method: the answer is that of a site that does not exist."""
    with guarded.client(f"foreign-{role}") as client:
        for method, path, _ in table:
            if "{site}" not in path:
                continue
            answer = ask(client, method, address(path, tracklets["cam1"]))
            absent = ask(client, method, address(path, tracklets["cam1"], site="absent"))
            assert answer.status_code == absent.status_code == 404, (method, path)
            assert answer.text.replace("toy", "absent") == absent.text
        assert client.get("/api/v1/sites").json() == {"sites": []}


@pytest.mark.parametrize("role", ROLES)
def test_a_foreign_camera_is_not_there(
    guarded: GuardedService, table: Table, tracklets: dict[str, str], role: Role
) -> None:
    """Nothing that anybody is answered names a camera that they may not see, and what it saw is answered as what does
    not exist."""
    hidden, absent = tracklets["cam2"], "cam2/ffffffffffff/000001"
    with guarded.client(f"narrow-{role}") as client:
        for method, path, _ in table:
            own = ask(client, method, address(path, tracklets["cam1"]))
            assert "cam2" not in own.text, (method, path)
            if "{tracklet_id" not in path:
                continue
            refused, missing = (ask(client, method, address(path, one)) for one in (hidden, absent))
            assert refused.status_code == missing.status_code, (method, path)
            assert refused.status_code >= 400
            assert refused.text.replace(hidden, "it") == missing.text.replace(absent, "it"), (method, path)
            assert "image" not in refused.headers["Content-Type"]
            assert "video" not in refused.headers["Content-Type"]


def test_a_foreign_camera_named_in_a_body_is_not_there_either(guarded: GuardedService) -> None:
    with guarded.client("narrow-admin") as client:
        answers = [
            client.post("/api/v1/sites/toy/erasures", json={"camera": camera, "everything": True, "dry_run": True})
            for camera in ("cam2", "cam7", "cam1")
        ]
    assert [answer.status_code for answer in answers] == [422, 422, 200]
    assert answers[0].json()["detail"].replace("cam2", "cam7") == answers[1].json()["detail"]
    assert "cam2" not in answers[1].text


def test_a_route_without_a_rule_stops_the_service(tmp_path: Path) -> None:
    app = create_app([], ServiceSettings(), Identities(SqliteFile(tmp_path / "service.sqlite", ACCESS)))
    more = APIRouter()

    @more.get("/forgotten")
    def forgotten(caller: Caller = Depends(caller_of)) -> str:
        return caller.name

    app.include_router(more)
    with pytest.raises(RuntimeError, match=r"route /forgotten has no rule.*Viewer, Investigator or Admin"):
        refuse_routes_without_a_rule(app)


def test_readiness_tells_of_sites_that_one_may_see(guarded: GuardedService) -> None:
    told = {}
    for user in (None, "foreign-viewer", "narrow-viewer"):
        with guarded.client(user) as client:
            answer = client.get("/readyz").json()
            assert answer["status"] == "ready"
            told[user] = {kind: set(answer.get(kind) or {}) for kind in ("sites", "providers", "models", "tracklets")}
    nothing: dict[str, set[str]] = {kind: set() for kind in ("sites", "providers", "models", "tracklets")}
    assert told == {None: nothing, "foreign-viewer": nothing, "narrow-viewer": {kind: {"toy"} for kind in nothing}}


def test_a_viewer_sees_the_crops_and_clips_of_investigations_and_no_others(
    guarded: GuardedService, tracklets: dict[str, str]
) -> None:
    shown, other = tracklets["cam1"], tracklets["cam2"]
    base = "/api/v1/sites/toy"
    with guarded.client("viewer") as viewer, guarded.client("investigator") as investigator:
        assert viewer.get(f"{base}/tracklets/{shown}/crop").status_code == 404
        begun = {"title": "t", "purpose": "p"}
        number = investigator.post(f"{base}/investigations", json=begun).json()["investigation_id"]
        case = f"{base}/investigations/{number}"
        assert investigator.put(f"{case}/hits/{shown}", json={"decision": "confirmed"}).status_code == 200
        assert viewer.get(f"{base}/tracklets/{shown}/crop").status_code == 404, "it is not shared with them"
        assert investigator.patch(case, json={"shared_with": ["viewer"]}).status_code == 200
        for kind in ("crop", "clip"):
            assert viewer.get(f"{base}/tracklets/{shown}/{kind}").status_code == 200
            assert viewer.get(f"{base}/tracklets/{other}/{kind}").status_code == 404
        assert investigator.delete(case).status_code == 204
        assert viewer.get(f"{base}/tracklets/{shown}/crop").status_code == 404


@pytest.mark.parametrize("page", ["models", "jobs", "erasures", "models/none-such/report"])
def test_what_is_of_a_whole_site_is_for_admins_who_see_all_of_it(guarded: GuardedService, page: str) -> None:
    codes = {}
    for user in ("admin", "narrow-admin", "foreign-admin", "investigator"):
        with guarded.client(user) as client:
            codes[user] = client.get(f"/sites/toy/admin/{page}").status_code
    there = 404 if page.endswith("report") else 200
    assert codes == {"admin": there, "narrow-admin": 403, "foreign-admin": 404, "investigator": 403}
