"""Retention without anybody remembering: a running service erases what has become too old, once an hour."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from gallery_service.background import in_background
from gallery_service.caller import Caller, Role
from gallery_service.erasure.erase import Outcome, erase, unfinished_orders
from gallery_service.errors import GalleryError
from ingest.erasure_selection import expired
from ingest.site import SiteConfig
from ingest.workspace import Workspace, WorkspaceBusy

if TYPE_CHECKING:
    from gallery_service.search.site_search import SiteSearch

EVERY_S = 3600.0
WHEN_BUSY_S = 300.0

RETENTION = Caller("retention", Role.ADMIN, None, "the service itself")

_log = logging.getLogger("gallery_service")


def keep_retention(site: SiteConfig, now: datetime) -> Outcome | None:
    """Erase what is older than site.yaml allows, and finish erasures that were interrupted.

    Returns:
        What was done; None where there was nothing to do.

    Raises:
        WorkspaceBusy: another command writes into the workspace.
        ValueError, OSError: see `erase`.
    """
    selection = expired(site, now)
    if not selection.spans and not unfinished_orders(Workspace(site)):
        return None
    asked = {"expired": True, "before": {camera: str(span.until) for camera, span in selection.spans.items()}}
    return erase(site, selection, asked=asked, caller=RETENTION, reason="retention_days", threads=1, hide_if_busy=False)


def keeping_retention(sites: Collection[SiteSearch], every_s: float = EVERY_S) -> AbstractContextManager[None]:
    """Keep the retention of some sites in the background: at once, and then every `every_s` seconds.

    A site that is busy is tried again soon; whatever else goes wrong is logged, and tried again the next time.
    """
    return in_background("retention", partial(_keep, sites, every_s))


def _keep(sites: Collection[SiteSearch], every_s: float, ending: threading.Event) -> None:
    while True:
        busy = False
        for site in sites:
            if ending.is_set():
                return
            try:
                outcome = keep_retention(site.current_site(), datetime.now(UTC))
            except WorkspaceBusy as error:
                busy = True
                _log.info("retention waits: %s", error)
            except Exception:
                _log.exception("retention of site '%s' could not be kept", site.name)
            else:
                if outcome is None:
                    continue
                busy |= outcome.waiting is not None
                # Not with the next request only: what is erased shall leave the memory, too.
                with suppress(GalleryError):
                    site.refresh()
                if outcome.found.tracklets:
                    _log.info("retention of site '%s': %d tracklets erased", site.name, len(outcome.found.tracklets))
                if outcome.waiting is None and not outcome.clean:
                    _log.error("site '%s': something was found after it was erased; see erasures/", site.name)
        if ending.wait(min(every_s, WHEN_BUSY_S) if busy else every_s):
            return
