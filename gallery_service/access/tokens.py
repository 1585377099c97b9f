"""Random tokens: API keys and what is in the cookie of a session. Only their hashes are kept.

They have 256 bits from the system's generator, so that nobody guesses one and a plain SHA-256 of them is safe to keep.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

KEY_PREFIX = "calr_"
"""So that people, and programs that look for leaked secrets, know one when they see it."""
_KEY = re.compile(r"calr_[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """An API key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def looks_like_key(text: str) -> bool:
    """Whether a text could be an API key."""
    return _KEY.fullmatch(text) is not None


def new_session_token() -> str:
    """What a browser's cookie holds."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is kept of a token, hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_token(session_token: str) -> str:
    """What a page of this session sends along with everything that changes something.

    Made from the session's token, so that it needs no place to be kept and ends with the session; the cookie cannot be
    worked out from it, so that a page may show it.
    """
    return hmac.new(session_token.encode(), b"csrf", hashlib.sha256).hexdigest()


def is_csrf_token(given: str, session_token: str) -> bool:
    """Whether it is the one of this session."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), csrf_token(session_token).encode())
