"""Signing in, what each is shown then, and the page that manages users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from gallery_service.access.accounts import Accounts
from gallery_service.access.database import ACCESS
from gallery_service.access.repository import AccessRepository
from gallery_service.caller import LOCAL, Role
from gallery_service.databases.sqlite_file import SqliteFile
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, copy_site, run_service

from .browser import barriers, one, screen, shown, wait, wait_for_answer

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Accounts]]:
    """Where users are kept, and an admin of everything, an investigator of one camera and a viewer."""
    folder = tmp_path_factory.mktemp("users")
    repository = AccessRepository(SqliteFile(folder / "service.sqlite", ACCESS))
    made = Accounts(repository)
    for name, role, rights in (
        ("ada", Role.ADMIN, ["*"]), ("ines", Role.INVESTIGATOR, ["toy/cam1"]), ("vic", Role.VIEWER, ["toy"]),
        ("olga", Role.ADMIN, ["toy"]), ("nina", Role.ADMIN, ["toy/cam1"]),
    ):  # fmt: skip
        made.add_user(LOCAL, name, role, PASSWORD, rights)
    yield folder, made
    repository.close()


@pytest.fixture(scope="module")
def service(
    accounts: tuple[Path, Accounts], built_gallery: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    site = copy_site(built_gallery, tmp_path_factory.mktemp("served"))
    with run_service(site.folder, env={"CALR_SITES": str(accounts[0])}) as running:
        yield running


def sign_in(page: WebDriver, service: RunningService, name: str, then: str = "/sites/toy") -> None:
    page.get(f"{service.url}{then}")
    one(page, "[name=name]").send_keys(name)
    one(page, "[name=password]").send_keys(PASSWORD + Keys.ENTER)
    wait(page, f"location.pathname === '{then}' && document.readyState === 'complete'")


def sign_out(page: WebDriver) -> None:
    one(page, ".account").click()
    one(page, ".menu-list form button").click()
    wait(page, "location.pathname === '/sign-in'")


@pytest.mark.browser
def test_each_is_shown_what_is_theirs(chromium: WebDriver, service: RunningService, tmp_path: Path) -> None:
    page = chromium
    crop = tmp_path / "query.jpg"
    crop.write_bytes(encode_jpeg(synthetic.query_crop(2)))
    page.get(f"{service.url}/sites/toy")
    assert barriers(page) == []
    sign_in(page, service, "ines")
    assert [tab.text for tab in page.find_elements(By.CSS_SELECTOR, ".tabs a")] == ["Search", "Investigations"]
    assert [name.text for name in page.find_elements(By.CLASS_NAME, "check-name")][:1] == ["cam1"]
    page.get_log("browser")
    one(page, "#file").send_keys(str(crop))
    wait_for_answer(page, "5 matches")
    assert {name.split("/")[0] for name in shown(page)} == {"cam1"}
    one(page, "#hit-1 [data-decide=confirmed]").click()
    wait(page, "document.querySelector('#which-case').open")
    one(page, "#which-case [name=title]").send_keys("Grey jacket")
    one(page, "#which-case [name=purpose]").send_keys("case 12/2026" + Keys.ENTER)
    wait(page, "document.querySelector('#hit-1 [data-decision=confirmed]')")
    assert page.get_log("browser") == []
    with screen(page, 360, 740):
        assert barriers(page) == []
    page.get(f"{service.url}/users")
    assert "Not for you" in one(page, "h1").text
    # A session that ended is told, where it was noticed.
    page.get(f"{service.url}/sites/toy")
    page.delete_all_cookies()
    one(page, "#file").send_keys(str(crop))
    wait(page, "document.querySelector('#answer .alert')?.textContent.includes('signed out')")

    # A viewer has no search, and sees no investigation that is not shared with them.
    sign_in(page, service, "vic", "/")
    assert (one(page, ".site").get_attribute("href") or "").endswith("/sites/toy/investigations")
    one(page, ".site").click()
    wait(page, "document.querySelector('.tabs')")
    assert [tab.text for tab in page.find_elements(By.CSS_SELECTOR, ".tabs a")] == ["Investigations"]
    assert page.find_elements(By.CLASS_NAME, "row") == []
    sign_out(page)


@pytest.mark.browser
def test_users_are_managed_on_their_page(
    chromium: WebDriver, service: RunningService, accounts: tuple[Path, Accounts]
) -> None:
    page = chromium
    sign_in(page, service, "ada", "/users")
    page.get_log("browser")
    assert barriers(page) == []
    one(page, '[data-dialog="new-user"]').click()
    assert barriers(page) == []
    one(page, "#new-user [name=name]").send_keys("otto")
    one(page, "#new-user [name=rights]").send_keys("toy/cam2 plaza")
    one(page, "#new-user [name=password]").send_keys(PASSWORD + Keys.ENTER)
    wait(page, "document.querySelector('tbody').textContent.includes('otto')")
    assert accounts[1].user("otto").rights == (("plaza", "*"), ("toy", "cam2"))
    one(page, '[aria-label="Edit otto"]').click()
    rights = one(page, "dialog[open] [name=rights]")
    rights.clear()
    rights.send_keys("toy")
    one(page, "dialog[open] .primary").click()
    wait(page, "[...document.querySelectorAll('tbody code')].filter((one) => one.textContent === 'plaza').length === 0")
    assert accounts[1].user("otto").rights == (("toy", "*"),)
    one(page, '[aria-label="Edit otto"]').click()
    one(page, "dialog[open] [name=purpose]").send_keys("export" + Keys.ENTER)
    wait(page, "document.querySelector('.new-key input')?.value.startsWith('calr_')")
    secret = one(page, ".new-key input").get_attribute("value")
    asked = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{service.url}/api/v1/me", headers=asked).json()["name"] == "otto"
    page.refresh()
    one(page, '[aria-label^="Revoke"]').click()
    page.switch_to.alert.accept()
    wait(page, "document.body.textContent.includes('revoked')")
    assert httpx.get(f"{service.url}/api/v1/me", headers=asked).status_code == 401
    assert page.get_log("browser") == []
    sign_out(page)


@pytest.fixture
def ada(service: RunningService) -> Iterator[httpx.Client]:
    """An admin of everything, signed in."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        assert client.post("/sign-in", data={"name": "ada", "password": PASSWORD}).status_code == 303
        found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', client.get("/sites/toy").text)
        assert found is not None
        client.headers["X-CSRF-Token"] = found[1]
        yield client


def test_a_change_that_is_refused_changes_nothing(ada: httpx.Client, accounts: tuple[Path, Accounts]) -> None:
    before = accounts[1].user("vic")
    refused = ada.post("/users/vic", data={"role": "admin", "rights": "toy plaza", "password": "short"})
    assert refused.status_code == 422
    assert accounts[1].user("vic") == before
    password = {"role": "viewer", "rights": "toy plaza", "password": PASSWORD + "!"}
    assert ada.post("/users/vic", data=password).status_code == 303
    assert accounts[1].user("vic").rights == (("plaza", "*"), ("toy", "*"))
    assert ada.post("/users/vic", data={**password, "rights": "toy", "password": PASSWORD}).status_code == 303
    assert accounts[1].user("vic") == before


@pytest.mark.parametrize("change", [{"role": "admin", "rights": "toy"}, {"role": "viewer", "rights": "*"}])
def test_nobody_takes_from_themselves_what_managing_users_needs(
    ada: httpx.Client, accounts: tuple[Path, Accounts], change: dict[str, str]
) -> None:
    refused = ada.post("/users/ada", data=change)
    assert (refused.status_code, "another admin can" in refused.text) == (422, True)
    assert accounts[1].user("ada").rights == (("*", "*"),)
    assert ada.get("/users").status_code == 200


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("olga", "/users", 403),  # an admin, but not of everything
        ("olga", "/sites/toy/audit", 200),
        ("olga", "/sites/toy/admin/erasures", 200),
        ("nina", "/sites/toy/audit", 403),  # an admin of one camera
        ("nina", "/sites/toy/audit/chain", 403),
        ("nina", "/sites/toy/admin/models", 403),
        ("nina", "/sites/toy/admin/jobs", 403),
        ("nina", "/sites/toy/admin/erasures", 403),
        ("nina", "/sites/toy/admin/cameras", 200),
        ("vic", "/sites/toy", 403),
        ("vic", "/sites/toy/investigations", 200),
        ("ines", "/sites/toy/admin/cameras", 403),
    ],
)
def test_pages_about_a_whole_site_are_for_those_who_may_see_all_of_it(
    service: RunningService, accounts: tuple[Path, Accounts], name: str, path: str, status: int
) -> None:
    key = accounts[1].add_key(LOCAL, name, "tests", 1).secret
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/html"}
    answer = httpx.get(f"{service.url}{path}", headers=headers)
    assert answer.status_code == status
    if name == "nina":
        assert "cam2" not in answer.text
