"""The report of the training run that a model came from, as it may be shown: it holds pictures of people.

It is a file that anything on the machine may have changed, and its name comes out of another one, so neither is
believed: the run is looked up among those that are there, and a page that shows the report has to do so under
`CONTENT_SECURITY_POLICY`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from gallery_service.errors import NotFound
from ingest.derived import runs_before, without_pictures
from ingest.workspace import Workspace

CONTENT_SECURITY_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What a report needs, and no more: pictures and styles that lie in it. No script runs, nothing is loaded or sent, and
the page is of no origin, so it could not read anything of this one either."""

_REPORT = "report.html"
_MOST_BYTES = 100 * 1024 * 1024


def has_report(workspace: Workspace, run_id: object) -> bool:
    """Whether there is a report of a run."""
    run = _run(workspace, run_id)
    return run is not None and (run / _REPORT).is_file()


def read_report(workspace: Workspace, run_id: object, erased: Collection[str]) -> str:
    """The report of a run, HTML.

    Args:
        workspace: the site's.
        run_id: as a bundle has it.
        erased: sha256 of the recordings of which something was erased. While its removal is waited for, a report that
            may show it is without pictures.

    Raises:
        NotFound: there is none.
    """
    run = _run(workspace, run_id)
    content = None if run is None else _read(run / _REPORT)
    if run is None or content is None:
        raise NotFound("there is no report of the run that trained this model; it was moved away, or trained elsewhere")
    page = content.decode("utf-8", "replace")
    since = workspace.erasures.stat().st_mtime if erased else 0.0
    return without_pictures(page) if run in runs_before(workspace, erased, since) else page


def _run(workspace: Workspace, run_id: object) -> Path | None:
    """A run by its name, never by its path."""
    if not workspace.runs.is_dir():
        return None
    runs = (path for path in workspace.runs.iterdir() if path.name == run_id)
    return next((path for path in runs if path.is_dir() and not path.is_symlink()), None)


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        return file.read() if stat.S_ISREG(found.st_mode) and found.st_size <= _MOST_BYTES else None
