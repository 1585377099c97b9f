"""Work that goes on beside the service for as long as it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_background(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do something in a thread of its own until the block ends.

    Args:
        name: of the thread.
        work: is told by the event that it is to end, and then has ten seconds. Killing it on the way must do no harm.
    """
    ending = threading.Event()
    thread = threading.Thread(target=work, args=(ending,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(timeout=10)
