"""A running service looks by itself, every few seconds, whether its sites have changed.

It also looks before every request, so nobody is ever shown what is gone. But what was erased shall leave the memory of
a service that nobody asks anything, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gallery_service.search import SiteSearch

_log = logging.getLogger("gallery_service")


@contextmanager
def keeping_up(sites: Collection[SiteSearch], every_s: float) -> Iterator[None]:
    """Let some sites follow what is on disk, in the background, every `every_s` seconds."""
    ending = threading.Event()
    thread = threading.Thread(target=_keep_up, args=(sites, every_s, ending), name="keeping up", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        # A gallery that is being loaded is soon loaded; killing it on the way does no harm.
        thread.join(timeout=10)


def _keep_up(sites: Collection[SiteSearch], every_s: float, ending: threading.Event) -> None:
    while not ending.wait(every_s):
        for site in sites:
            if ending.is_set():
                return
            try:
                site.keep_up()
            except Exception:
                _log.exception("site '%s' could not be looked at", site.name)
