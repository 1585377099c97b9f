"""What other stages made from crops and keep in the workspace: pictures in reports, and who was taken for whom.

A report does not say whom each of its pictures shows, so when somebody is erased all of them go. Reports can be made
again; of a training run what remains are its curves and its model, which has learned from the crops and cannot unlearn
them.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from ingest.workspace import Workspace
from models.atomic import write_text

RUN_SHARDS = "shards.json"
"""In a run's folder: the shards it learns from, `<camera>/<shard-id>`."""
_DRAWN = ("report.html", "contact_sheet.png", "ingest.html")
_PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+")
_BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAMLCwgAAACwAAAAAAQABAAACAkQBADs="


def run_shards(run: Path) -> list[str] | None:
    """The shards that a training run learned from; None where it does not say."""
    try:
        content = json.loads((run / RUN_SHARDS).read_text(encoding="utf-8"))
        return [str(name) for name in content["shards"]] if content["schema"] == 1 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def runs_of(workspace: Workspace, recordings: Collection[str]) -> list[Path]:
    """Training runs that learned from one of these recordings, or do not say from which they did.

    Args:
        recordings: their sha256.
    """
    if not workspace.runs.is_dir():
        return []
    found = []
    for run in sorted(path for path in workspace.runs.iterdir() if path.is_dir()):
        shards = run_shards(run)
        videos = [] if shards is None else [shard.rpartition("/")[2].partition("-")[0] for shard in shards]
        if shards is None or any(sha256.startswith(tuple(videos)) for sha256 in recordings):
            found.append(run)
    return found


def runs_before(workspace: Workspace, recordings: Collection[str], since: float) -> list[Path]:
    """Those of `runs_of` that began before a moment, seconds since 1970."""
    runs = runs_of(workspace, recordings)
    return [run for run in runs if not (run / RUN_SHARDS).exists() or (run / RUN_SHARDS).stat().st_mtime < since]


def remove_derived(workspace: Workspace, recordings: Collection[str], before: float = math.inf) -> list[str]:
    """Remove what was made from the crops of some recordings: the site's reports, and of training runs all but their
    curves and their model. Holds the lock.

    An unfinished run goes as a whole, since it could not be continued with other crops.

    Args:
        recordings: their sha256.
        before: seconds since 1970; what was made later stays.

    Returns:
        What was removed or changed, as paths from the workspace's root.
    """
    changed = _drawn_before(workspace, before)
    for path in changed:
        path.unlink()
    for run in runs_before(workspace, recordings, before):
        changed += _strip(run)
    return [str(path.relative_to(workspace.root)) for path in changed]


def derived_left(workspace: Workspace, recordings: Collection[str], since: float) -> list[str]:
    """What `remove_derived` should have removed, as paths from the workspace's root.

    Args:
        recordings: as there.
        since: when it did, seconds since 1970; what was made since then shows nobody who was erased.
    """
    left = _drawn_before(workspace, since)
    left += [path for run in runs_before(workspace, recordings, since) for path in _made_from_crops(run)]
    return [str(path.relative_to(workspace.root)) for path in left]


def _drawn_before(workspace: Workspace, moment: float) -> list[Path]:
    drawn = [path for path in (workspace.root / name for name in _DRAWN) if path.exists()]
    return [path for path in drawn if path.stat().st_mtime < moment]


def without_pictures(page: str) -> str:
    """A report's HTML with something grey in the place of every crop."""
    return _PICTURE.sub(_BLANK, page)


def _made_from_crops(run: Path) -> list[Path]:
    if not (run / "run.json").is_file():
        return [run]
    found = [path for path in (run / "checkpoints", run / "labels") if path.exists()] + sorted(run.glob("crops.cache*"))
    report = run / "report.html"
    if report.is_file() and _PICTURE.search(report.read_text(encoding="utf-8", errors="replace")):
        found.append(report)
    return found


def _strip(run: Path) -> list[Path]:
    found = _made_from_crops(run)
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name == "report.html":
            write_text(path, without_pictures(path.read_text(encoding="utf-8", errors="replace")))
        else:
            path.unlink()
    return found
