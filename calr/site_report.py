"""What a site's run amounts to: report.json, report.html and a contact sheet, merged from what each stage left."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calr.contact_sheet import draw_contact_sheet, pick_rows
from calr.neighbour_graph import centre_per_camera
from calr.reliability import Reliability, Sightings, draw_reliability, judge_matches
from calr.site_embeddings import SiteEmbeddings, embed_site, judge_without_labels
from calr.site_evaluation import evaluate_site

if TYPE_CHECKING:
    from ingest.shards import CropSet, Shard
    from ingest.workspace import Workspace
    from models.bundle import Bundle

STAGES = ("render", "ingest", "train", "export", "index", "ceiling", "report")
QUERIES, TOP, SEED = 20, 5, 7


class ReportError(ValueError):
    """A stage that the report needs has not run."""


@dataclass(frozen=True)
class SiteReport:
    """`content` is report.json; `fresh` is false when nothing had changed since the last report."""

    content: dict[str, Any]
    fresh: bool


def report_site(site_ref: str) -> SiteReport:
    """Merge the stages of a site into report.json, report.html and contact_sheet.png in its workspace.

    Raises:
        ReportError: nothing was ingested or exported yet.
    """
    from ingest.shards import list_shards, load_crops
    from ingest.site import load_site
    from ingest.workspace import Workspace
    from models.bundle import ModelStore

    site = load_site(site_ref)
    workspace = Workspace(site)
    with workspace.lock():
        statuses = {stage: workspace.read_status(stage) for stage in STAGES}
        live = ModelStore(workspace.models).current_version()
        for stage, command in (("ingest", "python -m ingest run"), ("export", "python -m calr export")):
            if statuses[stage] is None:
                raise ReportError(f"site {site.name} has no {stage} yet: {command} {site_ref}")
        if statuses["export"] is not None and live is not None:
            # Somebody may have promoted another version, or rolled back, since the export.
            statuses["export"]["live_version"] = live
        shards = list_shards(workspace)
        crops = load_crops(shards)
        basis = _basis(crops, statuses)
        last = _read_json(workspace.root / "report.json")
        if last is not None and last.get("basis") == basis and (workspace.root / "contact_sheet.png").is_file():
            return SiteReport(last, fresh=False)
        began = monotonic()
        content = _assemble(workspace, shards, crops, statuses)
        content["basis"] = basis
        content["seconds"]["report"] = round(monotonic() - began, 2)
        _publish(workspace.root, content)
        return SiteReport(content, fresh=True)


def _basis(crops: CropSet, statuses: dict[str, Any]) -> dict[str, Any]:
    """What the report was made from: the same basis means the same report."""
    export, ceiling = statuses["export"], statuses["ceiling"]
    return {
        "crops": crops.fingerprint(),
        "candidate": export["candidate_version"],
        "live": export["live_version"],
        "calibrated": export.get("calibrated"),  # not in exports from before there were calibrations
        "ceiling": None if ceiling is None else ceiling["run_id"],
        "failures": len(statuses["ingest"].get("failures", [])),
    }


def _assemble(workspace: Workspace, shards: list[Shard], crops: CropSet, statuses: dict[str, Any]) -> dict[str, Any]:
    from models.bundle import load_bundle

    export = statuses["export"]
    bundles = {
        name: load_bundle(workspace.models / export[key])
        for name, key in (("before", "start_version"), ("after", "candidate_version"), ("live", "live_version"))
    }
    seen: dict[str, SiteEmbeddings] = {}

    def embedded(bundle: Bundle) -> SiteEmbeddings:
        if bundle.version not in seen:
            seen[bundle.version] = embed_site(crops, bundle)
        return seen[bundle.version]

    identities = crops.identities()
    cameras = crops.tracklet_camera
    notices = [
        f"camera {remark['camera']}, {remark['path']}: {remark['error']}"
        for remark in statuses["ingest"].get("remarks", [])
    ]
    if np.unique(cameras).size < 2:
        notices.append("cross-camera search needs two cameras with tracklets; this site has one")
    retrieval: dict[str, Any] | None = None
    if identities is not None and np.unique(cameras).size > 1:
        before, after = embedded(bundles["before"]), embedded(bundles["after"])
        vectors = {
            "before": before.tracklets,
            "centred": centre_per_camera(before.tracklets, cameras),
            "after": after.tracklets,
        }
        ceiling = statuses["ceiling"]
        if ceiling is not None:
            vectors["ceiling"] = embedded(_ceiling_bundle(workspace, ceiling)).tracklets
        try:
            retrieval = {name: evaluate_site(found, cameras, identities).as_dict() for name, found in vectors.items()}
        except ValueError as unmeasured:
            notices.append(str(unmeasured))

    calibration: dict[str, Any] | None = None
    fitted = bundles["live"].calibration
    if identities is not None and fitted is not None:
        seen_by = Sightings(embedded(bundles["live"]).tracklets, cameras, identities)
        judged = judge_matches(fitted, seen_by, seen_by)
        calibration = None if judged is None else judged.as_dict()
    live, start = export["live_version"], export["start_version"]
    label_free = dict(export["label_free"])
    if live not in label_free:
        label_free[live] = judge_without_labels(crops, embedded(bundles["live"])).as_dict()
    _write_contact_sheet(workspace.root, crops, embedded(bundles["live"]).tracklets, identities)
    return {
        "schema": 1,
        "site": workspace.site.name,
        "model_version": live,
        "promotion": {key: export[key] for key in ("promoted", "reason", "candidate_version")},
        "counts": statuses["ingest"]["counts"],
        "failures": statuses["ingest"].get("failures", []),
        "notices": notices,
        "detection": (detection := _detection(shards)),
        "tracking": _tracking(shards, detection),
        "tracklet_purity": _purity(shards),
        "retrieval": retrieval,
        "calibration": calibration,
        "label_free": label_free[live],
        "label_free_start": label_free[start],
        "seconds": {
            stage: round(float(status["seconds"]), 2)
            for stage, status in statuses.items()
            if status is not None and stage != "report"
        },
        "training_run": statuses["train"]["run_id"] if statuses["train"] else None,
    }


def _ceiling_bundle(workspace: Workspace, ceiling: dict[str, Any]) -> Bundle:
    """The ceiling as a bundle of its own, beside its run: it is measured like the others and never goes live."""
    from models.bundle import load_bundle, write_bundle
    from models.weights import load_checkpoint

    folder = workspace.runs / ceiling["run_id"] / "bundle"
    if folder.is_dir():
        return load_bundle(folder)
    net, _ = load_checkpoint(workspace.root / ceiling["checkpoint"])
    return write_bundle(folder, net, workspace.site.training.input_size, training_run=ceiling["run_id"])


def _detection(shards: list[Shard]) -> dict[str, float | int] | None:
    totals = {"tp": 0, "fp": 0, "fn": 0}
    judged = [shard.summary["ground_truth"] for shard in shards if shard.summary.get("ground_truth")]
    for truth in judged:
        for key in totals:
            totals[key] += truth["detection"][key]
    if not any(totals.values()):
        return None  # no ground truth, or crops that were imported: nothing was detected there
    found, true = totals["tp"] + totals["fp"], totals["tp"] + totals["fn"]
    return {
        "precision": totals["tp"] / found if found else 0.0,
        "recall": totals["tp"] / true if true else 0.0,
        **totals,
    }


def _tracking(shards: list[Shard], detection: dict[str, float | int] | None) -> dict[str, float | int] | None:
    """What became of the true boxes: the share that lies in a tracklet of its person, and the mix-ups on the way."""
    truths = [shard.summary["ground_truth"] for shard in shards if shard.summary.get("ground_truth")]
    judged = [truth["tracking"] for truth in truths if "tracking" in truth]
    if detection is None or len(judged) < len(truths):
        return None
    totals = {key: sum(entry[key] for entry in judged) for key in ("covered", "switches", "fragments")}
    return {"recall": totals["covered"] / max(1, detection["tp"] + detection["fn"]), **totals}


def _purity(shards: list[Shard]) -> float | None:
    """Share of tracklet boxes that show the person most of their tracklet's boxes show."""
    entries = [
        entry
        for shard in shards
        if shard.summary.get("ground_truth")
        for entry in shard.summary["ground_truth"]["tracklets"].values()
    ]
    boxes = sum(entry["boxes"] for entry in entries)
    return sum(entry["purity"] * entry["boxes"] for entry in entries) / boxes if boxes else None


def _write_contact_sheet(
    root: Path, crops: CropSet, vectors: NDArray[np.float32], identities: NDArray[np.int64] | None
) -> None:
    from models.atomic import write_bytes

    rows = pick_rows(vectors, crops.tracklet_camera, identities, queries=QUERIES, top=TOP, seed=SEED)
    truth = "" if identities is None else "   green = same person, red = another"
    sheet = draw_contact_sheet(
        rows,
        lambda tracklet: crops.image(max(crops.crops_of_tracklet[tracklet], key=lambda crop: crops.quality[crop])),
        lambda tracklet: crops.camera_ids[int(crops.tracklet_camera[tracklet])],
        f"query (dark frame) and its best {TOP} matches in other cameras{truth}",
    )
    write_bytes(root / "contact_sheet.png", _png(sheet))


def _png(image: NDArray[np.uint8]) -> bytes:
    import cv2

    done, data = cv2.imencode(".png", image)
    if not done:
        raise OSError("the contact sheet could not be written as PNG")
    return bytes(data)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _publish(root: Path, content: dict[str, Any]) -> None:
    from models.atomic import write_json, write_text

    write_text(root / "report.html", render_html(content, (root / "contact_sheet.png").read_bytes()))
    write_json(root / "report.json", content)


def tables(content: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """The report as titled tables of text, first row the heading: the same for the terminal and for the page."""
    out: list[tuple[str, list[list[str]]]] = []
    counts = content["counts"]
    out.append(("Site", [list(counts), [f"{value:,}" for value in counts.values()]]))
    detection, tracking, purity = content["detection"], content["tracking"], content["tracklet_purity"]
    if detection is not None:
        out.append(
            (
                "Detection and tracking against the ground truth",
                [
                    ["precision", "recall", "recall in tracklets", "purity of tracklets", "switches", "fragments"],
                    [
                        _percent(detection["precision"]),
                        _percent(detection["recall"]),
                        *(["–"] if tracking is None else [_percent(tracking["recall"])]),
                        _percent(purity),
                        *(["–", "–"] if tracking is None else [str(tracking["switches"]), str(tracking["fragments"])]),
                    ],
                ],
            )
        )
    names = {
        "before": "before (start weights)",
        "centred": "start weights, centred per camera",
        "after": "after CALR",
        "ceiling": "trained on true identities (ceiling)",
    }
    if content["retrieval"] is not None:
        rows = [["cross-camera search", "mAP", "rank-1", "rank-5", "rank-10", "queries"]]
        for key, name in names.items():
            if key in content["retrieval"]:
                found = content["retrieval"][key]
                shares = [_percent(found[k]) for k in ("mAP", "rank1", "rank5", "rank10")]
                rows.append([name, *shares, str(found["queries"])])
        out.append(("Cross-camera retrieval, tracklet level", rows))
    calibration = content["calibration"]
    if calibration is not None:
        rows = [["live model", "expected calibration error", "Brier skill", "right among the first 10", "matches"]]
        skill = f"{calibration['brier_skill']:.2f}"
        error, base = (_percent(calibration[key]) for key in ("expected_calibration_error", "base_rate"))
        rows.append([content["model_version"], error, skill, base, str(calibration["matches"])])
        out.append(("Probabilities of matches in other cameras, against the ground truth", rows))
    rows = [["without labels", "start model", "live model"]]
    for key, name in (
        ("tracklet_consistency", "tracklet halves find each other (mAP)"),
        ("camera_predictability", "camera predictable from embedding (lower is better)"),
        ("mutual_neighbours", "mutual nearest neighbours across cameras"),
        ("score", "label-free score"),
    ):
        rows.append([name, _percent(content["label_free_start"][key]), _percent(content["label_free"][key])])
    out.append(("Label-free evidence", rows))
    seconds = content["seconds"]
    out.append(("Seconds per stage", [list(seconds), [f"{value:.0f}" for value in seconds.values()]]))
    return out


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def render_html(content: dict[str, Any], contact_sheet: bytes) -> str:
    """One self-contained page: tables, notices and the contact sheet."""
    parts = []
    for title, rows in tables(content):
        head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    remarks = [*content["notices"], f"live model {content['model_version']}: {content['promotion']['reason']}"]
    remarks += [f"not ingested: {f['camera']} {f['path']}: {f['error']}" for f in content["failures"]]
    listed = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    picture = base64.b64encode(contact_sheet).decode()
    calibration, curve = content["calibration"], ""
    if calibration is not None:
        drawn = base64.b64encode(draw_reliability({content["model_version"]: Reliability(**calibration)})).decode()
        curve = f'<h2>Reliability</h2><img src="data:image/png;base64,{drawn}" alt="reliability curve">'
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(content["site"])}: report</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem }}
th, td {{ border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left; font-variant-numeric: tabular-nums }}
img {{ max-width: 100%; border: 1px solid #ccc }}
</style>
<h1>{escape(content["site"])}</h1>
<ul>{listed}</ul>
{"".join(parts)}
{curve}
<h2>Contact sheet</h2>
<p>Random queries and their best matches in other cameras. A score says how alike two crops look, a
probability how often such matches are right; neither is a proof.</p>
<img src="data:image/png;base64,{picture}" alt="contact sheet of queries and matches">
</html>
"""
