"""From a finished training run to the model that goes live.

The first bundle of a site is its start model: the untrained way of searching, and the one to beat. A trained model goes
live only if the label-free score says that it is not worse than the live one; otherwise it is kept, reported, and the
old one stays. Where somebody lets another go live meanwhile, it is judged once more, against that one.

Each is calibrated when its bundle is made: the trained one with what all epochs of the run took for one person, the
start model with what was found with its own features, in the first epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calr.calibration import fit_calibration
from calr.label_free import LabelFreeScore
from calr.site_embeddings import SiteEmbeddings, embed_site, judge_without_labels

if TYPE_CHECKING:
    from ingest.shards import CropSet
    from ingest.site import SiteConfig
    from ingest.workspace import Workspace
    from models.bundle import Bundle, Calibrate, ModelStore

# The score is an average over a few hundred half-tracklets and pairs; differences below this are noise.
TOLERANCE = 0.005


class ExportError(ValueError):
    """There is nothing to export."""


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate goes live, and why."""

    promoted: bool
    reason: str


def verdict(candidate: LabelFreeScore, live: LabelFreeScore) -> Verdict:
    """Compare two label-free scores taken on the same crops."""
    if candidate.score is None or live.score is None:
        return Verdict(
            True, "the site has too little footage to judge a model without labels; the trained one goes live"
        )
    difference = candidate.score - live.score
    if difference >= -TOLERANCE:
        return Verdict(True, f"label-free score {candidate.score:.3f}, the live model's {live.score:.3f}")
    return Verdict(
        False, f"label-free score {candidate.score:.3f} is below the live model's {live.score:.3f}: it stays"
    )


def export_site(site_ref: str) -> dict[str, Any]:
    """Export the last training run of a site as a bundle, judge it, and promote it if it is not worse.

    Returns:
        What status/export.json holds.

    Raises:
        ExportError: nothing was trained yet.
    """
    from calr.training_run import global_labels, last_refined_labels
    from ingest.shards import list_shards, load_crops
    from ingest.site import load_site
    from ingest.workspace import Workspace
    from models.bundle import ModelStore
    from models.weights import load_checkpoint

    site = load_site(site_ref)
    workspace = Workspace(site)
    with workspace.lock():
        trained = workspace.read_status("train")
        if trained is None:
            raise ExportError(f"site {site.name} has no trained model yet: python -m calr train {site_ref}")
        before = workspace.read_status("export")
        store = ModelStore(workspace.models)
        if before is not None and before["run_id"] == trained["run_id"] and _still_there(workspace, before):
            # Somebody may have promoted another version, or rolled back, since.
            live_version = store.current_version() or before["live_version"]
            return {**before, "live_version": live_version, "state": "nothing to do"}
        began = monotonic()
        crops = load_crops(list_shards(workspace))
        run = workspace.runs / trained["run_id"]
        epochs = global_labels(run)
        seen: dict[str, SiteEmbeddings] = {}

        def embedded(bundle: Bundle) -> SiteEmbeddings:
            if bundle.version not in seen:
                seen[bundle.version] = embed_site(crops, bundle)
            return seen[bundle.version]

        start = _start_bundle(site, store, _calibrate(crops, embedded, epochs[:1]))
        net, meta = load_checkpoint(workspace.root / trained["checkpoint"])
        if meta["input_size"] != site.training.input_size:
            raise ExportError(
                f"{site.file}: training.input_size is {site.training.input_size}, the last run was trained with "
                f"{meta['input_size']}; python -m calr train {site_ref}"
            )
        candidate = store.add(
            net,
            site.training.input_size,
            training_run=trained["run_id"],
            data_fingerprint=crops.fingerprint(),
            calibrate=_calibrate(crops, embedded, epochs),
        )
        clusters = last_refined_labels(run)
        scores: dict[str, LabelFreeScore] = {}

        def score(bundle: Bundle) -> LabelFreeScore:
            if bundle.version not in scores:
                scores[bundle.version] = judge_without_labels(crops, embedded(bundle), clusters)
            return scores[bundle.version]

        live, decision = _go_live(store, start, candidate, score)
        judged = {bundle.version: bundle for bundle in (start, live, candidate)}
        status = {
            "schema": 1,
            "state": "done",
            "run_id": trained["run_id"],
            "start_version": start.version,
            "candidate_version": candidate.version,
            "live_version": candidate.version if decision.promoted else live.version,
            **asdict(decision),
            "label_free": {version: score(bundle).as_dict() for version, bundle in judged.items()},
            "calibrated": {version: bundle.calibration is not None for version, bundle in judged.items()},
            "seconds": monotonic() - began,
        }
        workspace.write_status("export", status)
        return status


def _go_live(
    store: ModelStore, start: Bundle, candidate: Bundle, score: Callable[[Bundle], LabelFreeScore]
) -> tuple[Bundle, Verdict]:
    """Let the candidate go live, if it is not worse than the live model at that moment: judging takes minutes, in which
    somebody may promote another one.

    Args:
        start: is live first where none is, so that there is one to go back to.
        score: of a model.

    Returns:
        What was live before, and the verdict.
    """
    from models.bundle import LiveVersionError

    while True:
        current = store.current()
        live = current or start
        decision = verdict(score(candidate), score(live))
        chosen = candidate if decision.promoted else live
        try:
            if current is None:
                store.promote(start.version, instead_of=None)
            store.promote(chosen.version, instead_of=live.version)  # the live one: only looks whether it still is
        except LiveVersionError:
            continue
        return live, decision


def _start_bundle(site: SiteConfig, store: ModelStore, calibrate: Calibrate) -> Bundle:
    from calr.start_model import start_model

    return store.add(start_model(site), site.training.input_size, calibrate=calibrate)


def _calibrate(
    crops: CropSet, embedded: Callable[[Bundle], SiteEmbeddings], epochs: list[NDArray[np.int64]]
) -> Calibrate:
    used = np.unique(crops.tracklet)  # the nodes that were trained on
    if any(len(labels) != len(used) for labels in epochs):
        return lambda bundle: None  # ingested anew since: nobody knows whose labels these are
    return lambda bundle: fit_calibration(embedded(bundle).tracklets[used], crops.tracklet_camera[used], epochs)


def _still_there(workspace: Workspace, status: dict[str, Any]) -> bool:
    return all(
        (Path(workspace.models) / status[key] / "bundle.json").is_file() for key in ("start_version", "live_version")
    )
