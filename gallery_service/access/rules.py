"""The rule of every route: who may use it.

A route says so by the type of its caller, `Viewer`, `Investigator` or `Admin`; what a caller may see is narrowed
further down, by `Caller.cameras`. What needs no caller stands in `OPEN`. A route that does neither is a mistake, and
the service does not start with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

from gallery_service.caller import Caller, Role, caller_of
from gallery_service.errors import Forbidden

OPEN = frozenset({"/healthz", "/readyz", "/sign-in", "/openapi.json", "/static"})
"""Routes for everybody: whether the service is alive and ready (a probe has no key, and learns nothing else), the page
to sign in on, the description of the API and the pages' looks, which are the same everywhere."""
_UNASKED = OPEN - {"/readyz", "/sign-in"}


def is_open(path: str) -> bool:
    """Whether what answers at a path is for everybody."""
    return path in OPEN or path.startswith("/static/")


def is_unasked(path: str) -> bool:
    """Whether it answers all alike, so that nobody needs to find out who asks."""
    return path in _UNASKED or path.startswith("/static/")


class AtLeast:
    """A FastAPI dependency: the caller, who may do what a role may do.

    Args:
        role: the least.
    """

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
        """The caller.

        Raises:
            NotSignedIn: nobody knows who it is.
            Forbidden: they have a lesser role.
        """
        if not caller.may(self.role):
            raise Forbidden(f"this is for the role '{self.role}', and yours is '{caller.role}'; ask an admin")
        return caller


Viewer = Annotated[Caller, Depends(AtLeast(Role.VIEWER))]
Investigator = Annotated[Caller, Depends(AtLeast(Role.INVESTIGATOR))]
Admin = Annotated[Caller, Depends(AtLeast(Role.ADMIN))]


def rule_of(route: RouteContext) -> Role | None:
    """The least role that a route asks for, None when it asks for none."""
    dependant: Dependant | None = getattr(route, "dependant", None)
    if dependant is None:
        return None
    asked = [one.role for one in _calls(dependant) if isinstance(one, AtLeast)]
    return max(asked, key=list(Role).index, default=None)


def refuse_routes_without_a_rule(app: FastAPI) -> None:
    """Let no service start that has a route of which nobody said whom it is for.

    Raises:
        RuntimeError: there is one.
    """
    for route in iter_route_contexts(app.routes):
        if rule_of(route) is None and route.path not in OPEN:
            raise RuntimeError(
                f"route {route.path} has no rule: let it take its caller as Viewer, Investigator or Admin "
                "(gallery_service/access/rules.py)"
            )


def _calls(dependant: Dependant) -> Iterator[object]:
    for child in dependant.dependencies:
        yield child.call
        yield from _calls(child)
