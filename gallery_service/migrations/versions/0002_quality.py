"""How good the best crop of a tracklet is, for searches that want no poor ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_quality"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tracklets", sa.Column("quality", sa.Double()))


def downgrade() -> None:
    with op.batch_alter_table("tracklets") as batch:
        batch.drop_column("quality")
