"""What every page knows of who looks at it."""

from __future__ import annotations

from typing import Any

from fastapi import Request


def page_context(request: Request) -> dict[str, Any]:
    """For Jinja2Templates(context_processors=...): `caller` (None: not signed in), `signed_in` (in a session, which can
    be ended) and `csrf_token` (empty without a session)."""
    return {
        "caller": getattr(request.state, "caller", None),
        "signed_in": getattr(request.state, "session", None) is not None,
        "csrf_token": getattr(request.state, "csrf_token", ""),
    }
