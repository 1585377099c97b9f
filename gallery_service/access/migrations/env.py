"""Alembic's entry for users: migrate the connection that `gallery_service.databases.migration` hands over."""

from __future__ import annotations

from alembic import context

from gallery_service.access.tables import AccessBase

connection = context.config.attributes["connection"]
# Batch mode: SQLite cannot alter most of a table in place.
context.configure(connection=connection, target_metadata=AccessBase.metadata, render_as_batch=True)
context.run_migrations()
