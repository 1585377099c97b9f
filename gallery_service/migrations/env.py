"""Alembic's entry: migrate the connection that `gallery_service.databases.migration` hands over."""

from __future__ import annotations

from alembic import context

import gallery_service.investigations.tables  # noqa: F401 adds its tables to Base
from gallery_service.storage.tables import Base

connection = context.config.attributes["connection"]
# Batch mode: SQLite cannot alter most of a table in place.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
