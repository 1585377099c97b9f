"""The database of users, rights and keys."""

from __future__ import annotations

from pathlib import Path

from gallery_service.databases.choice import choose_database
from gallery_service.databases.database import Contents, Database
from ingest.site import sites_folder

ACCESS = Contents(
    migrations=Path(__file__).parent / "migrations",
    remedy="restore it from a backup; without it nobody can be let in",
)


def service_database() -> Database:
    """$CALR_SITES/service.sqlite, or the schema `service`: users and keys span sites.

    Raises:
        GalleryError: see `choose_database`.
    """
    return choose_database(sites_folder() / "service.sqlite", "service", ACCESS)
