"""The database of a site's gallery."""

from __future__ import annotations

from pathlib import Path

from gallery_service.databases.choice import choose_database
from gallery_service.databases.database import Contents, Database
from ingest.workspace import Workspace

GALLERY = Contents(
    migrations=Path(__file__).parent.parent / "migrations",
    remedy=(
        "restore it from a backup, or move it away and run the index command, which makes all of it anew but the audit "
        "log and the investigations"
    ),
)
FILE = "gallery.sqlite"


def gallery_file(workspace: Workspace) -> Path:
    """Where the gallery's database lies, if it is a file."""
    return workspace.gallery / FILE


def gallery_database(workspace: Workspace) -> Database:
    """The gallery's database, which need not exist.

    Raises:
        GalleryError: see `choose_database`.
    """
    return choose_database(gallery_file(workspace), f"site_{workspace.site.name}", GALLERY)
