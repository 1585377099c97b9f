"""One browser for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from .browser import open_chromium


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A headless Chromium with a profile of its own."""
    with open_chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
