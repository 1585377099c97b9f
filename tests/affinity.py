"""Whether work is tied to some of the cores: then every process that does it is, to the same ones."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable


def share_tied(work: Callable[[], object]) -> float:
    """How often, looked at again and again while the work is done, a thread of this process may not run on every core.

    0 to 1, over all threads; the work runs in a thread of its own.
    """
    cores = os.sched_getaffinity(0)
    tied = looks = 0
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):
                tied += os.sched_getaffinity(int(task)) != cores
                looks += 1
    return tied / max(looks, 1)
