"""A running service looks by itself, every few seconds, whether its sites have changed.

It also looks before every request, so nobody is ever shown what is gone. But what was erased shall leave the memory of
a service that nobody asks anything, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from gallery_service.background import in_background

if TYPE_CHECKING:
    from gallery_service.search.site_search import SiteSearch

_log = logging.getLogger("gallery_service")


def keeping_up(sites: Collection[SiteSearch], every_s: float) -> AbstractContextManager[None]:
    """Let some sites follow what is on disk, in the background, every `every_s` seconds."""
    return in_background("keeping up", partial(_keep_up, sites, every_s))


def _keep_up(sites: Collection[SiteSearch], every_s: float, ending: threading.Event) -> None:
    while not ending.wait(every_s):
        for site in sites:
            if ending.is_set():
                return
            try:
                site.keep_up()
            except Exception:
                _log.exception("site '%s' could not be looked at", site.name)
