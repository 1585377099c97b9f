"""A site's models as a page shows them: which one answers, what they are, and what was measured of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gallery_service.pictures.training_reports import has_report
from ingest.workspace import Workspace
from models.bundle import Bundle, BundleError, ModelStore


@dataclass(frozen=True)
class ModelCard:
    """One model.

    Attributes:
        version: its name.
        added_at: RFC 3339.
        live: models/current names it.
        answers: searches use it.
        rollback: it is what a rollback would bring back.
        report: whether there is a report of the run that trained it.
        bundle: None where it is damaged; then `problem` says how.
        label_free: scores without labels by name, 0..1; empty where it was not judged.
        reason: why it went live, or did not.
        retrieval: with ground truth, "before" and "after" training, where the site's report is about it.
    """

    version: str
    added_at: str
    live: bool
    answers: bool
    rollback: bool
    report: bool
    bundle: Bundle | None
    problem: str | None
    label_free: dict[str, float]
    reason: str | None
    retrieval: dict[str, dict[str, float]]


def model_cards(workspace: Workspace, answering: str) -> list[ModelCard]:
    """All of a site, the newest first.

    Args:
        workspace: the site's.
        answering: the version that searches use.
    """
    store = ModelStore(workspace.models)
    exported = workspace.read_status("export") or {}
    report = _report(workspace)
    live, previous = store.current_version(), store.previous_version()
    cards = []
    for version in reversed(store.list()):
        bundle, problem = None, None
        try:
            bundle = store.load(version)
        except BundleError as error:
            problem = str(error)
        scores = exported.get("label_free", {}).get(version) or {}
        added = (store.folder / version / "bundle.json").stat().st_mtime
        cards.append(
            ModelCard(
                version=version,
                added_at=datetime.fromtimestamp(added, UTC).isoformat(),
                live=version == live,
                answers=version == answering,
                rollback=version == previous,
                report=bundle is not None and has_report(workspace, bundle.training_run),
                bundle=bundle,
                problem=problem,
                label_free={name: value for name, value in scores.items() if isinstance(value, float)},
                reason=exported.get("reason") if exported.get("candidate_version") == version else None,
                retrieval=_retrieval(report) if report.get("model_version") == version else {},
            )
        )
    return cards


def _report(workspace: Workspace) -> dict[str, Any]:
    try:
        content = json.loads((workspace.root / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _retrieval(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    found = report.get("retrieval") or {}
    return {name: found[name] for name in ("before", "after") if name in found}
