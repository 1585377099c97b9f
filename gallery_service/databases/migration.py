"""Bringing a database's tables up to date with Alembic, on a connection that is open already."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from gallery_service.errors import GalleryError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

migrating = threading.Lock()
"""Held by whoever upgrades, from before the transaction begins: Alembic's context is global to the process."""


def is_current(connection: Connection, migrations: Path) -> bool:
    """Whether nothing is to be done.

    Args:
        connection: of the database.
        migrations: Alembic's folder for it.
    """
    return _revision(connection) == _scripts(migrations).get_current_head()


def upgrade(connection: Connection, migrations: Path, place: object) -> None:
    """Migrate to this version's schema.

    Args:
        connection: in a transaction that was begun for writing, while `migrating` was held.
        migrations: Alembic's folder for it.
        place: how the message names the database.

    Raises:
        GalleryError: it was written by a newer version of this program.
    """
    from alembic import command

    scripts, found = _scripts(migrations), _revision(connection)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise GalleryError(
            f"{place}: written by a newer version of this program (schema {found}, known up to "
            f"{scripts.get_current_head()}); update the program"
        )
    config = _config(migrations)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config(migrations: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    return config


def _scripts(migrations: Path) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config(migrations))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)
