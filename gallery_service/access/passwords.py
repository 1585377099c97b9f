"""Passwords: what is kept of them, and how one that is typed is compared with that.

Argon2id (RFC 9106, through argon2-cffi), because it makes guessing expensive in memory, not only in time. The hash
names its own cost, so that the cost can be raised later: whoever signs in then gets a new hash.
"""

from __future__ import annotations

import functools
import threading

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from gallery_service.errors import BadQuery

MIN_LENGTH = 12
MAX_LENGTH = 256

# RFC 9106's second recommendation, for machines with little memory: 64 MiB, three passes.
_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
# Each takes 64 MiB: many who sign in at once wait for each other.
_hashing = threading.Semaphore(2)


def hash_password(password: str) -> str:
    """What is kept of a password.

    Raises:
        BadQuery: it is too short or too long.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise BadQuery(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters; several words are easy to remember")
    with _hashing:
        return _hasher.hash(password.encode("utf-8", "surrogatepass"))


def is_password(password: str, kept: str | None) -> bool:
    """Whether a password is the one that was kept.

    Args:
        password: as it was typed.
        kept: from `hash_password`; None: of nobody, which takes as long and is never right.
    """
    if len(password) > MAX_LENGTH:
        return False
    with _hashing:
        try:
            right = _hasher.verify(kept or _nobodys(), password.encode("utf-8", "surrogatepass"))
        except (Argon2Error, InvalidHashError):
            return False
    return right and kept is not None


def is_outdated(kept: str) -> bool:
    """Whether a password was kept at another cost than the one of now."""
    return _hasher.check_needs_rehash(kept)


@functools.cache
def _nobodys() -> str:
    return _hasher.hash("of nobody")
