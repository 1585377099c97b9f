"""Investigations, their queries and their hits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_investigations"
down_revision = "0003_segments"
branch_labels = None
depends_on = None


def _investigation(primary_key: bool) -> sa.Column[int]:
    parent = sa.ForeignKey("investigations.number", ondelete="CASCADE")
    return sa.Column("investigation", sa.Integer(), parent, primary_key=primary_key, nullable=False)


def upgrade() -> None:
    op.create_table(
        "investigations",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("investigation_id", sa.String(), nullable=False, unique=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("title", "purpose", "notes", "status")),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "investigation_readers",
        _investigation(primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
    )
    op.create_table(
        "investigation_queries",
        _investigation(primary_key=True),
        sa.Column("query_id", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("vector", sa.LargeBinary()),
        sa.Column("pictures", sa.Integer(), nullable=False),
        *_tracklet(),
        sa.Column("filters", sa.String(), nullable=False),
    )
    op.create_table(
        "investigation_pictures",
        sa.Column("investigation", sa.Integer(), primary_key=True),
        sa.Column("query_id", sa.String(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("jpeg", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["investigation", "query_id"],
            ["investigation_queries.investigation", "investigation_queries.query_id"],
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "investigation_hits",
        sa.Column("hit_id", sa.Integer(), primary_key=True, autoincrement=True),
        _investigation(primary_key=False),
        *_tracklet(),
        sa.Column("first_seen", sa.BigInteger()),
        sa.Column("last_seen", sa.BigInteger()),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("query_id", sa.String()),
        sa.Column("score", sa.Double()),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.Column("erased_at", sa.BigInteger()),
    )
    op.create_index("hits_by_investigation", "investigation_hits", ["investigation", "tracklet_id"])


def _tracklet() -> list[sa.Column[str] | sa.Column[float]]:
    return [
        sa.Column("tracklet_id", sa.String()),
        sa.Column("camera_id", sa.String()),
        sa.Column("recording_sha256", sa.String()),
        sa.Column("start_pts_s", sa.Double()),
        sa.Column("end_pts_s", sa.Double()),
    ]


def downgrade() -> None:
    for name in ("hits", "pictures", "queries", "readers"):
        op.drop_table(f"investigation_{name}")
    op.drop_table("investigations")
