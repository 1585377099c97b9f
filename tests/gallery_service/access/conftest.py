"""A served site with users, whose rights and sessions the tests of this folder try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gallery_service.access.accounts import Accounts
from gallery_service.access.database import ACCESS
from gallery_service.access.repository import AccessRepository
from gallery_service.caller import LOCAL, Role
from gallery_service.databases.sqlite_file import SqliteFile

from ..conftest import copy_site, run_service

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class GuardedService:
    """A running service, and the accounts that it asks.

    Attributes:
        keys: API keys by user; a user is called after their role, `narrow-` before it where they see one camera only.
    """

    url: str
    accounts: Accounts
    repository: AccessRepository
    keys: dict[str, str]

    def client(self, user: str | None = None) -> httpx.Client:
        """A program that asks as somebody, or as nobody."""
        headers = {"Authorization": f"Bearer {self.keys[user]}"} if user else {}
        return httpx.Client(base_url=self.url, timeout=120, headers=headers)


@pytest.fixture(scope="session")
def guarded(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedService]:
    """The indexed site, served to users only."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("guarded"))
    sites = tmp_path_factory.mktemp("service")
    repository = AccessRepository(SqliteFile(sites / "service.sqlite", ACCESS))
    accounts = Accounts(repository)
    keys = {}
    for role in Role:
        for name, rights in ((str(role), ["toy"]), (f"narrow-{role}", ["toy/cam1"]), (f"foreign-{role}", ["plaza"])):
            accounts.add_user(LOCAL, name, role, PASSWORD, rights)
            keys[name] = accounts.add_key(LOCAL, name, "tests", 1).secret
    with run_service(site.folder, env={"CALR_SITES": str(sites)}) as running:
        yield GuardedService(running.url, accounts, repository, keys)
    repository.close()
