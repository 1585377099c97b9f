"""Segments by camera and day, tombstones, and checksums of shards.

Vectors and the rows made from shards are laid out anew: the next index run makes them again. What cannot be made again
(the record of searches and everything that later revisions add) stays.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_segments"
down_revision = "0002_quality"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("tracklets", "segments", "model_galleries", "shards"):
        op.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608 names from the line above
    op.drop_table("segments")
    op.create_table(
        "segments",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("camera_id", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("tracklets", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stale", sa.Boolean(), nullable=False),
    )
    op.create_index("segments_by_model", "segments", ["model_version", "camera_id", "day"])
    op.create_table(
        "embedded_shards",
        sa.Column("model_version", sa.String(), primary_key=True),
        sa.Column("shard", sa.String(), sa.ForeignKey("shards.shard", ondelete="CASCADE"), primary_key=True),
    )
    op.create_table(
        "tombstones",
        sa.Column("shard", sa.String(), primary_key=True),
        sa.Column("tracklet_id", sa.String(), primary_key=True),
    )
    with op.batch_alter_table("shards") as batch:
        batch.add_column(sa.Column("summary_sha256", sa.String(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("shards") as batch:
        batch.drop_column("summary_sha256")
    op.drop_table("tombstones")
    op.drop_table("embedded_shards")
    op.drop_table("segments")
    op.create_table(
        "segments",
        sa.Column("model_version", sa.String(), primary_key=True),
        sa.Column("shard", sa.String(), sa.ForeignKey("shards.shard", ondelete="CASCADE"), primary_key=True),
    )
