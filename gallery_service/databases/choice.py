"""Which database it is: the file in the folder, or a schema of the server that CALR_DATABASE names."""

from __future__ import annotations

from pathlib import Path

from gallery_service.databases.database import Contents, Database
from gallery_service.databases.postgres_schema import PostgresSchema
from gallery_service.databases.postgres_server import VARIABLE, server_url
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.errors import GalleryError


def choose_database(path: Path, schema: str, contents: Contents) -> Database:
    """The database of a folder. The environment says which kind, and it must not be forgotten: whoever goes on in the
    other kind begins with an empty audit log, and without users.

    Args:
        path: of the SQLite file.
        schema: what it is called in a server.
        contents: what it is for.

    Raises:
        GalleryError: CALR_DATABASE is no such address, or the folder has its rows in a database of the other kind.
    """
    url, marker = server_url(), path.with_suffix(".postgres")
    if url is None:
        if marker.exists():
            raise GalleryError(
                f"{marker}: says that the rows are in a PostgreSQL database, but {VARIABLE} is not set; set it, or "
                f"delete that file to begin anew in {path.name}"
            )
        return SqliteFile(path, contents)
    if path.exists() and not marker.exists():
        raise GalleryError(
            f"{path}: holds the rows, but {VARIABLE} names a server, to which nothing takes them over; unset the "
            "variable, or move the file away (with its audit log) to begin anew in the server"
        )
    return PostgresSchema(url, schema, marker, contents)
