"""Checksums of the rows that nothing else says again. What is in them now counts as right."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gallery_service.databases.row_checksum import give_checksums

revision = "0002_row_checksums"
down_revision = "0001_access"
branch_labels = None
depends_on = None

_TABLES = ("users", "rights", "keys", "sessions")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("checksum", sa.String()))
    give_checksums(op.get_bind(), *_TABLES)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "checksum")
