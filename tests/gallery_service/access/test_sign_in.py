"""Sessions over a real socket: signing in and out, what a session may do, and what other pages may not make it do."""

from __future__ import annotations

import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from gallery_service.access.accounts import Accounts
from gallery_service.access.attempts import PER_NAME
from gallery_service.access.database import ACCESS
from gallery_service.access.gate import COOKIE
from gallery_service.access.repository import AccessRepository
from gallery_service.access.tables import KeyRow, SessionRow
from gallery_service.audit.trail import EntryFilter
from gallery_service.caller import LOCAL, Role
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.errors import GalleryError
from gallery_service.web.serving import listening_socket
from models.images import encode_jpeg

from .. import synthetic
from ..conftest import RunningService, copy_site, run_service
from .conftest import PASSWORD, GuardedService

SEARCH = "/api/v1/sites/toy/search"
ME = "/api/v1/me"


@contextmanager
def signed_in(guarded: GuardedService, name: str = "investigator", password: str = PASSWORD) -> Iterator[httpx.Client]:
    with guarded.client() as client:
        answer = client.post("/sign-in", data={"name": name, "password": password, "next": "/sites/toy"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/sites/toy"), answer.text
        yield client


def csrf(client: httpx.Client) -> str:
    found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', client.get("/sites/toy").text)
    assert found is not None
    return found[1]


def crop() -> dict[str, tuple[str, bytes, str]]:
    return {"image": ("crop.jpg", encode_jpeg(synthetic.query_crop(0)), "image/jpeg")}


def new_user(guarded: GuardedService, name: str) -> None:
    guarded.accounts.add_user(LOCAL, name, Role.INVESTIGATOR, PASSWORD, ["toy/cam1"])


def test_a_browser_is_led_to_the_page_signs_in_and_out_again(guarded: GuardedService) -> None:
    with guarded.client() as client:
        led = client.get("/sites/toy?x=1", headers={"Accept": "text/html"})
        assert (led.status_code, led.headers["Location"]) == (303, "/sign-in?next=/sites/toy%3Fx%3D1")
        page = client.get(led.headers["Location"])
        assert 'value="/sites/toy?x=1"' in page.text
        answer = client.post(
            "/sign-in", data={"name": " Investigator ", "password": PASSWORD, "next": "/sites/toy?x=1"}
        )
        assert (answer.status_code, answer.headers["Location"]) == (303, "/sites/toy?x=1")
        cookie = answer.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "secure" not in cookie, "a browser would not send it back over plain HTTP"
        assert client.get(ME).json() == {"name": "investigator", "role": "investigator", "rights": {"toy": ["*"]}}
        assert client.get("/sign-in").status_code == 303
        kept = client.cookies[COOKIE]
        assert client.post("/sign-out", data={"csrf": csrf(client)}).headers["Location"] == "/sign-in"
        client.cookies.set(COOKIE, kept)
        assert client.get(ME).status_code == 401, "the session ended here, not only in the browser"


def test_what_changes_something_needs_the_token_of_the_session(guarded: GuardedService) -> None:
    with signed_in(guarded) as client, signed_in(guarded) as other:
        token = csrf(client)
        assert token != csrf(other)
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": csrf(other)}, {"X-CSRF-Token": token[:-1]}):
            refused = client.post(SEARCH, files=crop(), headers=headers)
            assert refused.status_code == 403, headers
            assert "load it again" in refused.json()["detail"]
            assert client.post("/sign-out", headers=headers).status_code == 403
        assert client.post("/sign-out", data={"csrf": "0" * 64}).status_code == 403
        assert client.post("/sign-out", data={"csrf": token, "more": "x" * 100_000}).status_code == 403
        assert client.post(SEARCH, files=crop(), headers={"X-CSRF-Token": token}).status_code == 200
        elsewhere = {"X-CSRF-Token": token, "Origin": "http://evil.example"}
        assert client.post(SEARCH, files=crop(), headers=elsewhere).status_code == 403
        key = {"Authorization": f"Bearer {guarded.keys['viewer']}"}
        assert client.get(ME, headers=key).json()["name"] == "viewer", "a key counts before the cookie"


def test_the_form_of_the_search_page_works_without_a_script(guarded: GuardedService) -> None:
    large = encode_jpeg(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8))
    assert len(large) > 1_000_000
    with signed_in(guarded) as client, signed_in(guarded) as other:
        page = client.get("/sites/toy").text
        form = page[page.index('id="question"') :]
        assert re.findall('name="([^"]+)"', form)[0] == "csrf", "only the beginning of a form is looked at for it"
        token, foreign = csrf(client), csrf(other)
        assert f'name="csrf" value="{token}"' in form
        rest = {"camera": "cam1", "top_k": "3", "min_quality": "0"}

        def send(fields: dict[str, str], picture: bytes = crop()["image"][1]) -> httpx.Response:
            files = {"image": ("crop.jpg", picture, "image/jpeg")}
            own = {"Accept": "text/html", "Origin": guarded.url, "Sec-Fetch-Site": "same-origin"}
            return client.post("/sites/toy/search", data=fields, files=files, headers=own)

        for picture in (crop()["image"][1], large):
            answer = send({"csrf": token} | rest, picture)
            assert answer.status_code == 200, answer.text
            assert answer.text.count('<li class="hit"') == 3
        for fields in (rest, {"csrf": foreign} | rest, {"csrf": ""} | rest, rest | {"csrf": token}):
            assert send(fields).status_code == 403, fields
        # The token does not open what programs use: there it goes into a header.
        assert client.post(SEARCH, data={"csrf": token}, files=crop()).status_code == 422


def test_nobody_learns_which_names_there_are(guarded: GuardedService) -> None:
    answers = []
    with guarded.client() as client:
        for name in ("investigator", "nobody-at-all"):
            answer = client.post("/sign-in", data={"name": name, "password": "wrong horse battery", "next": "/"})
            assert answer.status_code == 401
            assert "Set-Cookie" not in answer.headers
            answers.append(answer.text)
    assert answers[0] == answers[1]
    entries = [entry for entry, _ in guarded.repository.audit.newest(EVERYTHING, None, 2)]
    assert [(entry.who, entry.action) for entry in entries] == [
        ("nobody", "sign-in.refused"), ("investigator", "sign-in.refused"),
    ]  # fmt: skip
    assert "nobody-at-all" not in entries[0].details, "people type passwords into the wrong field"


def test_guessing_ends(guarded: GuardedService) -> None:
    new_user(guarded, "guessed")
    for name in ("guessed", "no-such-user"):
        with guarded.client() as client:
            given = {"name": name, "password": "wrong horse battery"}
            codes = [client.post("/sign-in", data=given).status_code for _ in range(PER_NAME + 1)]
            assert codes == [401] * PER_NAME + [429]
            right = client.post("/sign-in", data={"name": name, "password": PASSWORD})
            assert right.status_code == 429
            assert "minutes" in right.text
    with guarded.client("investigator") as client:
        assert client.get(ME).status_code == 200, "who has a key goes on"


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nSet-Cookie: x"])
def test_signing_in_leads_nowhere_else(guarded: GuardedService, wanted: str) -> None:
    new = {"name": "viewer", "password": PASSWORD, "next": wanted}
    with guarded.client() as client:
        answer = client.post("/sign-in", data=new)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")


def test_what_is_taken_away_is_gone_at_once(guarded: GuardedService) -> None:
    new_user(guarded, "leaver")
    key = guarded.accounts.add_key(LOCAL, "leaver", "theirs", 1)
    bearer = {"Authorization": f"Bearer {key.secret}"}
    with signed_in(guarded, "leaver") as client, guarded.client() as program:
        assert client.get(ME).json()["rights"] == {"toy": ["cam1"]}
        guarded.accounts.grant(LOCAL, "leaver", ["toy/cam2"])
        assert client.get(ME).json()["rights"] == {"toy": ["cam1", "cam2"]}
        guarded.accounts.revoke(LOCAL, "leaver", ["toy/cam1"])
        assert client.get(ME).json()["rights"] == {"toy": ["cam2"]}
        guarded.accounts.set_password(LOCAL, "leaver", "another long password")
        assert client.get(ME).status_code == 401
        assert program.get(ME, headers=bearer).status_code == 200
    with signed_in(guarded, "leaver", "another long password") as client, guarded.client() as program:
        guarded.accounts.disable(LOCAL, "leaver")
        assert client.get(ME).status_code == 401
        assert "disabled" in program.get(ME, headers=bearer).json()["detail"]
        guarded.accounts.enable(LOCAL, "leaver")
        assert client.get(ME).status_code == 401, "a session that ended stays so"
        assert program.get(ME, headers=bearer).status_code == 200
        guarded.accounts.revoke_key(LOCAL, key.key.key_id)
        assert "revoked" in program.get(ME, headers=bearer).json()["detail"]


@pytest.mark.parametrize("column", ["expires_at", "used_at"])
def test_sessions_and_keys_end_by_themselves(guarded: GuardedService, column: str) -> None:
    with signed_in(guarded) as client:
        assert client.get(ME).status_code == 200
        with guarded.repository._writing() as session:
            for row in session.scalars(select(SessionRow)):
                setattr(row, column, 1)
        assert client.get(ME).status_code == 401
    key = guarded.accounts.add_key(LOCAL, "viewer", "short", 1)
    with guarded.repository._writing() as session:
        session.get_one(KeyRow, key.key.key_id).expires_at = 1
    with guarded.client() as program:
        answer = program.get(ME, headers={"Authorization": f"Bearer {key.secret}"})
        assert answer.status_code == 401
        assert "expired" in answer.json()["detail"]


def test_nothing_that_is_kept_opens_anything(guarded: GuardedService) -> None:
    with signed_in(guarded) as client:
        secrets = [*guarded.keys.values(), client.cookies[COOKIE], PASSWORD]
        for file in database(guarded).parent.glob("service.sqlite*"):
            content = file.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], file


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer x", "Basic dXNlcjpwYXNz", "Bearer calr_" + "A" * 43, "Bearer \xe4"]
)
def test_what_is_no_key_is_refused(guarded: GuardedService, header: str) -> None:
    with guarded.client() as client:
        answer = client.get(ME, headers=[(b"Authorization", header.encode("latin-1"))])
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_refusal_is_recorded_once(guarded: GuardedService) -> None:
    new_user(guarded, "curious")
    key = guarded.accounts.add_key(LOCAL, "curious", "theirs", 1)
    with httpx.Client(base_url=guarded.url, headers={"Authorization": f"Bearer {key.secret}"}) as client:
        for _ in range(3):
            assert client.get("/api/v1/sites/toy/audit").status_code == 403
    entries = [entry for entry, _ in guarded.repository.audit.newest(EntryFilter(who="curious"), None, 9)]
    assert [(entry.action, entry.via) for entry in entries] == [("refused", "key theirs")]
    assert "GET /api/v1/sites/{site}/audit" in entries[0].details
    assert guarded.repository.audit.verify().problem is None


def test_a_service_without_users_asks_for_sign_in_from_the_first_user_on(built_gallery: Path, tmp_path: Path) -> None:
    site = copy_site(built_gallery, tmp_path)
    sites = tmp_path / "sites"
    with run_service(site.folder, env={"CALR_SITES": str(sites)}) as running:
        assert httpx.get(running.url + ME).json() == {"name": "local", "role": "admin", "rights": None}
        assert not (sites / "service.sqlite").exists()
        repository = AccessRepository(SqliteFile(sites / "service.sqlite", ACCESS))
        Accounts(repository).add_user(LOCAL, "first", Role.ADMIN, PASSWORD, ["*"])
        repository.close()
        assert httpx.get(running.url + ME).status_code == 401
        for file in sites.glob("service.sqlite*"):
            file.unlink()
        assert httpx.get(running.url + ME).status_code == 401, "and not back when the file is lost"
        bearer = {"Authorization": f"Bearer calr_{'a' * 43}"}
        assert httpx.get(running.url + ME, headers=bearer).status_code in (401, 503)


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"},
     {"X-Real-IP": "127.0.0.1"}, {"X-Forwarded-Proto": "https"}, {"X-Forwarded-For": "not an address"}],
)  # fmt: skip
def test_without_users_nobody_is_let_in_through_a_proxy(without_users: RunningService, headers: dict[str, str]) -> None:
    """A wrong CALR_SITES or a lost service.sqlite must not make an admin of everybody whom the proxy lets through."""
    for path in (ME, "/api/v1/sites/toy/audit"):
        assert httpx.get(without_users.url + path).status_code == 200
        refused = httpx.get(without_users.url + path, headers=headers)
        assert refused.status_code == 403
        assert "users add" in refused.json()["detail"]


@pytest.fixture(scope="module")
def without_users(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    site = copy_site(built_gallery, tmp_path_factory.mktemp("open"))
    with run_service(site.folder, env={"CALR_SITES": str(tmp_path_factory.mktemp("no-users"))}) as running:
        yield running


def test_a_proxys_name_without_users_is_refused_at_the_start() -> None:
    with pytest.raises(GalleryError, match=r"gallery\.example\.org.*users add.*CALR_SITES"):
        listening_socket("127.0.0.1", 0, has_users=False, names=["gallery.example.org"])


def test_a_database_of_users_that_was_put_back_counts_at_once(built_gallery: Path, tmp_path: Path) -> None:
    site, sites = copy_site(built_gallery, tmp_path / "site"), tmp_path / "sites"
    file = sites / "service.sqlite"
    repository = AccessRepository(SqliteFile(file, ACCESS))
    accounts = Accounts(repository)
    accounts.add_user(LOCAL, "eve", Role.VIEWER, PASSWORD, ["toy"])
    bearer = {"Authorization": f"Bearer {accounts.add_key(LOCAL, 'eve', 'hers', 1).secret}"}
    repository.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", (str(sites / "backup"),))
    with run_service(site.folder, env={"CALR_SITES": str(sites)}) as running:
        assert httpx.get(running.url + ME, headers=bearer).status_code == 200
        again = (sites / "backup").read_bytes()
        for old in sites.glob("service.sqlite-*"):
            old.unlink()
        (sites / "backup").replace(file)
        repository = AccessRepository(SqliteFile(file, ACCESS))
        Accounts(repository).disable(LOCAL, "eve")
        repository.close()
        shut_out = httpx.get(running.url + ME, headers=bearer)
        assert (shut_out.status_code, "disabled" in shut_out.text) == (401, True)
        SqliteFile(sites / "none.sqlite", ACCESS).open().dispose()
        (sites / "none.sqlite").replace(file)
        unavailable = httpx.get(running.url + ME, headers=bearer)
        assert (unavailable.status_code, "none.sqlite" in unavailable.text) == (503, False)
        file.unlink()
        assert httpx.get(running.url + ME, headers=bearer).status_code == 503
        with file.open("wb") as being_copied:
            assert httpx.get(running.url + ME, headers=bearer).status_code == 503
            being_copied.write(again)
        assert httpx.get(running.url + ME, headers=bearer).status_code == 200


def test_who_sits_at_the_door_keeps_nobody_out(built_gallery: Path, guarded: GuardedService, tmp_path: Path) -> None:
    """Half of a request to sign in, or of one that is refused, takes no place from those who are known."""
    site = copy_site(built_gallery, tmp_path)
    env = {"CALR_SITES": str(database(guarded).parent), "CALR_SERVICE_MAX_REQUESTS": "8"}
    bearer = {"Authorization": f"Bearer {guarded.keys['viewer']}"}
    with run_service(site.folder, env=env) as running, ExitStack() as sitting:
        address = urlsplit(running.url)
        for path in ("/sign-in", SEARCH):
            for host in ("127.0.0.1", "evil.example"):
                for _ in range(10):
                    connected = socket.create_connection((address.hostname or "", address.port or 0), timeout=60)
                    sitting.enter_context(connected)
                    connected.sendall(
                        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                        "Content-Length: 5000\r\n\r\nname=".encode()
                    )
        for path, headers in (("/healthz", {}), ("/readyz", {}), (ME, bearer)):
            give_up = time.monotonic() + 60
            # Until it is known of each that nobody knows it, it may take any place.
            while httpx.get(running.url + path, headers=headers, timeout=60).status_code != 200:
                assert time.monotonic() < give_up
                time.sleep(0.2)
        assert httpx.get(running.url + "/sign-in", timeout=60).status_code == 503, "they all sit there still"
        # One of them is answered once its time is up, and the door is free again.
        with httpx.Client(base_url=running.url, timeout=60) as client:
            give_up = time.monotonic() + 60
            while client.get("/sign-in").status_code != 200:
                assert time.monotonic() < give_up
                time.sleep(0.2)


def test_with_users_it_listens_anywhere_and_answers_to_the_address_it_is_reached_at(
    built_gallery: Path, guarded: GuardedService, tmp_path: Path
) -> None:
    site = copy_site(built_gallery, tmp_path)
    env = {"CALR_SITES": str(database(guarded).parent)}
    with run_service(site.folder, env=env, options=("--host", "0.0.0.0")) as running:
        port = running.url.rsplit(":", 1)[1]
        for address in ("127.0.0.1", "127.0.0.2", "localhost"):
            assert httpx.get(f"http://{address}:{port}{ME}").status_code == 401
        named = httpx.get(f"http://127.0.0.1:{port}{ME}", headers={"Host": "evil.example"})
        assert named.status_code == 400
    with pytest.raises(GalleryError, match="no IP address"):
        listening_socket("example.org", 0, has_users=True)


def database(guarded: GuardedService) -> Path:
    with guarded.repository._engine.connect() as connection:
        return Path(connection.exec_driver_sql("PRAGMA database_list").all()[0][2])


EVERYTHING = EntryFilter()
