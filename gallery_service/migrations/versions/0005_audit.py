"""The audit log. The record of searches becomes its beginning."""

from __future__ import annotations

import json
from dataclasses import asdict

import sqlalchemy as sa
from alembic import op

from gallery_service.audit.chain import FIRST_PREVIOUS, Entry, canonical_json
from gallery_service.audit.triggers import append_only_triggers

revision = "0005_audit"
down_revision = "0004_investigations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("via", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("purpose", sa.String()),
        sa.Column("details", sa.String(), nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
    )
    for name, column in (("who", "who"), ("action", "action"), ("time", "at")):
        op.create_index(f"audit_by_{name}", "audit", [column])
    _take_over_searches()
    op.drop_table("searches")
    for statement in append_only_triggers(op.get_bind().dialect.name):
        op.execute(statement)


def _take_over_searches() -> None:
    connection = op.get_bind()
    audit = sa.table("audit", *(sa.column(name) for name in (*Entry.__dataclass_fields__, "hash")))
    searches = connection.execute(
        sa.text(
            "SELECT query_id, searched_at, who, purpose, model_version, query_image_sha256, query_tracklet_id, "
            "filters, result FROM searches ORDER BY id"
        )
    )
    previous = FIRST_PREVIOUS
    for number, search in enumerate(searches, 1):
        details = {
            "query_id": search.query_id,
            "model_version": search.model_version,
            "query_image_sha256": (search.query_image_sha256 or "").split(),
            "query_tracklet_id": search.query_tracklet_id,
            "filters": json.loads(search.filters),
            "shown": json.loads(search.result),
        }
        entry = Entry(
            id=number,
            at=search.searched_at,
            who=search.who,
            via="",
            action="search",
            purpose=search.purpose,
            details=canonical_json(details),
            previous=previous,
        )
        previous = entry.hash()
        connection.execute(sa.insert(audit).values(**asdict(entry), hash=previous))


def downgrade() -> None:
    raise NotImplementedError("the audit log is not thrown away; restore a backup made before the update")
