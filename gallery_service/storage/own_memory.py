"""Memory that goes back to the system with what lies in it. What Python frees stays in the process, readable, until
something else is put there: no place for the vectors of somebody who was erased."""

from __future__ import annotations

import mmap


def own_memory(size: int) -> mmap.mmap:
    """So many bytes, zero, for as long as an array of them (`numpy.frombuffer`) is in use.

    Args:
        size: in bytes; 0 gives a little more, which a mapping must have.
    """
    memory = mmap.mmap(-1, max(1, size), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)  # as numpy does it, else looking at scattered rows is slower
    return memory
