"""Signing in and searching in a real browser that runs no script."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from models.images import encode_jpeg

from .. import synthetic
from ..pages.browser import PATIENCE_S, open_chromium
from .conftest import PASSWORD, GuardedService


@pytest.mark.browser
def test_somebody_signed_in_searches_without_a_script(guarded: GuardedService, tmp_path: Path) -> None:
    picture = tmp_path / "query.jpg"
    picture.write_bytes(encode_jpeg(synthetic.query_crop(0)))
    with open_chromium(tmp_path / "profile") as browser:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.get(f"{guarded.url}/sites/toy")
        browser.find_element(By.NAME, "name").send_keys("investigator")
        browser.find_element(By.NAME, "password").send_keys(PASSWORD)
        browser.find_element(By.CSS_SELECTOR, "form button[type=submit].primary").click()
        WebDriverWait(browser, PATIENCE_S).until(lambda page: page.find_elements(By.ID, "file"))
        browser.find_element(By.ID, "file").send_keys(str(picture))
        browser.find_element(By.ID, "submit").click()
        WebDriverWait(browser, PATIENCE_S).until(lambda page: page.find_elements(By.CSS_SELECTOR, "#matches .hit"))
        assert len(browser.find_elements(By.CSS_SELECTOR, "#matches .hit")) == 13
