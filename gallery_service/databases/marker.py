"""The file that ties a folder to its schema in a PostgreSQL server, so that nobody takes another's for its own.

It lies where the SQLite file would, `gallery.postgres` for `gallery.sqlite`, and holds a random id that the schema has,
too. Two workspaces whose sites have the same name cannot meet in one schema then: an index run would forget the
other's shards.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from gallery_service.errors import GalleryError
from models.atomic import make_folder, write_text

_BEGUN = "begun"


@dataclass(frozen=True)
class Marker:
    """What the file says.

    Attributes:
        id: of the schema.
        made: the schema was there; one that is missing then was lost, or is in another database.
    """

    id: str
    made: bool


def read_marker(path: Path) -> Marker | None:
    """What the file says, None while there is none.

    Raises:
        GalleryError: it says nothing that can be understood.
    """
    try:
        words = path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise GalleryError(f"{path}: cannot be read ({error}); restore it from a backup") from None
    if not words or words[1:] not in ([], [_BEGUN]):
        raise GalleryError(f"{path}: does not hold the id of a schema; restore it from a backup")
    return Marker(words[0], made=len(words) == 1)


def write_marker(path: Path, marker: Marker) -> None:
    """Write the file, and its folder where that is missing."""
    make_folder(path.parent)
    write_text(path, f"{marker.id}\n" if marker.made else f"{marker.id} {_BEGUN}\n")


def new_marker() -> Marker:
    """For a schema that is about to be made."""
    return Marker(secrets.token_hex(16), made=False)
