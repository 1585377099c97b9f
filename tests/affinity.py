"""Whether work is tied to some of the cores: then every process that does it is, to the same ones."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Container


def tied_threads() -> set[str]:
    """Threads of this process that may not run on every core: what other tests' libraries have left behind."""
    cores = os.sched_getaffinity(0)
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            if os.sched_getaffinity(int(task)) != cores:
                found.add(task)
    return found


def share_tied(work: Callable[[], object], apart_from: Container[str] = ()) -> float:
    """How often, looked at again and again while the work is done, a thread of this process may not run on every core.

    0 to 1, over all threads; the work runs in a thread of its own.

    Args:
        work: to do.
        apart_from: `tied_threads` from before what does the work was made.
    """
    cores = os.sched_getaffinity(0)
    tied = looks = 0
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):
                tied += task not in apart_from and os.sched_getaffinity(int(task)) != cores
                looks += 1
        time.sleep(0.002)  # or the looking would take a core, and the interpreter's lock, from the work
    return tied / max(looks, 1)
