"""The chain: what of an entry is hashed, and how a whole log is checked.

The hash of an entry is SHA-256 over the canonical JSON of everything in it, the hash of the entry before it included.
So whoever changes, adds, removes or reorders entries has to write every later hash anew, and the last hash comes out
another: one kept elsewhere (`python -m gallery_service audit head`) then no longer fits. Without one kept elsewhere,
entries cut off at the end, or a log written anew from the first entry to the last, cannot be told from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

FIRST_PREVIOUS = "0" * 64
"""What the first entry has for the hash before it."""


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did.

    Attributes:
        id: 1, 2, 3 ... without a gap.
        at: when, UTC microseconds.
        who: the user's name.
        via: how they came: their session, a key's name, the command line.
        action: what, a short dotted name such as `search` or `user.added`.
        purpose: why, or which case; None where nobody said.
        details: the rest, canonical JSON of an object.
        previous: hash of the entry before, `FIRST_PREVIOUS` for the first.
    """

    id: int
    at: int
    who: str
    via: str
    action: str
    purpose: str | None
    details: str
    previous: str

    def hash(self) -> str:
        """SHA-256 of all of it, hexadecimal."""
        return hashlib.sha256(canonical_json(asdict(self)).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """What checking a log found.

    Attributes:
        entries: how many were whole, from the first on.
        head: hash of the last whole one; `FIRST_PREVIOUS` when there is none.
        problem: what is wrong, and with which entry; None when nothing is.
    """

    entries: int
    head: str
    problem: str | None


def canonical_json(value: object) -> str:
    """The one way of writing a value: keys sorted, no blanks, ASCII. Of numbers only finite ones."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def verify(entries: Iterable[tuple[Entry, str]], head: str | None = None) -> Verdict:
    """Check a log.

    Args:
        entries: with the hash that is stored for each, in the order of their ids.
        head: a hash that was the last one at some time; it has to be among them.

    Returns:
        The verdict; reading ends at the first entry that is wrong.
    """
    whole, last, passed = 0, FIRST_PREVIOUS, head in (None, FIRST_PREVIOUS)
    for entry, stored in entries:
        problem = _problem(entry, stored, whole, last)
        if problem is not None:
            return Verdict(whole, last, problem)
        whole, last = whole + 1, stored
        passed = passed or stored == head
    if not passed:
        return Verdict(
            whole,
            last,
            f"none of the {whole} entries has the hash {head}: entries at the end are gone, or all were written anew",
        )
    return Verdict(whole, last, None)


def _problem(entry: Entry, stored: str, whole: int, last: str) -> str | None:
    if entry.id != whole + 1:
        return f"entry {whole + 1} is missing; after {whole} comes {entry.id}"
    if entry.previous != last:
        return f"entry {entry.id} does not follow on entry {whole}; one of the two was replaced"
    try:
        changed = entry.hash() != stored
    except (TypeError, ValueError):  # a value of a kind that no entry ever had
        changed = True
    return f"entry {entry.id} was changed after it was written" if changed else None
