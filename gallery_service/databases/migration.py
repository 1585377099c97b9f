"""Bringing a database's tables up to date with Alembic, on a connection that is open already."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event, inspect, text

from gallery_service.errors import DatabaseUnavailable, GalleryError

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
    return _revision(connection) == _newest(migrations)


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
            f"{_newest(migrations)}); update the program"
        )
    config = _config(migrations)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def write_only_this_schema(engine: Engine, migrations: Path, place: object) -> None:
    """Refuse to begin a transaction that writes once another version of this program has changed the tables: its rows
    would lack what that version writes into them. A transaction that migrates says so (`migrates=True`).

    Args:
        engine: whose listeners make writers wait for each other.
        migrations: Alembic's folder for the database.
        place: how the message names it, which is a `DatabaseUnavailable`.
    """
    known = _newest(migrations)

    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("writes", False) or options.get("migrates", False):
            return
        found = _revision(connection)
        if found != known:
            raise DatabaseUnavailable(
                f"{place}: another version of this program has changed its tables meanwhile (schema {found}, this one "
                f"writes {known}), so nothing was written; start this again with that version"
            )

    event.listen(engine, "begin", begin)


def _config(migrations: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    return config


def _scripts(migrations: Path) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config(migrations))


@cache
def _newest(migrations: Path) -> str | None:
    return _scripts(migrations).get_current_head()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)
