"""The first gallery: shards, tracklets, segments, and an append-only record of searches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shards",
        sa.Column("shard", sa.String(), primary_key=True),
        sa.Column("camera_id", sa.String(), nullable=False),
        sa.Column("recording_sha256", sa.String(), nullable=False),
        sa.Column("tracklets", sa.Integer(), nullable=False),
        sa.Column("crops", sa.Integer(), nullable=False),
    )
    op.create_table(
        "tracklets",
        sa.Column("tracklet_id", sa.String(), primary_key=True),
        sa.Column("shard", sa.String(), sa.ForeignKey("shards.shard", ondelete="CASCADE"), nullable=False),
        sa.Column("camera_id", sa.String(), nullable=False),
        sa.Column("start_pts_s", sa.Double(), nullable=False),
        sa.Column("end_pts_s", sa.Double(), nullable=False),
        sa.Column("first_seen", sa.BigInteger()),
        sa.Column("last_seen", sa.BigInteger()),
        sa.Column("time_source", sa.String()),
        sa.Column("crops", sa.Integer(), nullable=False),
        sa.Column("best_crop_offset", sa.BigInteger()),
        sa.Column("best_crop_length", sa.BigInteger()),
    )
    op.create_index("tracklets_by_shard", "tracklets", ["shard"])
    op.create_table(
        "segments",
        sa.Column("model_version", sa.String(), primary_key=True),
        sa.Column("shard", sa.String(), sa.ForeignKey("shards.shard", ondelete="CASCADE"), primary_key=True),
    )
    op.create_table(
        "model_galleries",
        sa.Column("model_version", sa.String(), primary_key=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "gallery_state",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("generation", sa.Integer(), nullable=False),
    )
    op.execute("INSERT INTO gallery_state (id, generation) VALUES (1, 0)")
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("query_id", sa.String(), nullable=False, unique=True),
        sa.Column("searched_at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("purpose", sa.String()),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("query_image_sha256", sa.String()),
        sa.Column("query_tracklet_id", sa.String()),
        sa.Column("filters", sa.String(), nullable=False),
        sa.Column("result", sa.String(), nullable=False),
    )
    # 0005 takes these searches into the audit log and drops the table; no PostgreSQL database was ever in between.
    for change in ("UPDATE", "DELETE") if op.get_bind().dialect.name == "sqlite" else ():
        op.execute(
            f"CREATE TRIGGER searches_no_{change.lower()} BEFORE {change} ON searches "
            "BEGIN SELECT RAISE(ABORT, 'the record of searches is append-only'); END"
        )


def downgrade() -> None:
    for table in ("searches", "gallery_state", "model_galleries", "segments", "tracklets", "shards"):
        op.drop_table(table)
