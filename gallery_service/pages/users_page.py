"""Users and keys, for admins of everything: they span sites."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from gallery_service.access.accounts import Accounts, now_us
from gallery_service.access.identity import Identities
from gallery_service.access.rights import format_right
from gallery_service.access.rules import Admin
from gallery_service.caller import Caller, Role
from gallery_service.errors import BadQuery, Conflict, Forbidden
from gallery_service.pages.rendering import go_to, render

users_pages = APIRouter(prefix="/users", default_response_class=HTMLResponse)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def admin_of_everything(caller: Admin) -> Caller:
    """The caller, who may see every site: whoever manages users could else give themselves what they may not see.

    Raises:
        Forbidden: only some.
    """
    if caller.rights is not None:
        raise Forbidden("users are managed by admins who may see every site")
    return caller


def managed_accounts(request: Request) -> Accounts:
    """The users of the service.

    Raises:
        Conflict: there are none yet. The first is not added here: whoever did would have to sign in as them at once.
    """
    identities: Identities = request.app.state.identities
    if not identities.has_users:
        raise Conflict("nobody has to sign in yet; add the first user with 'python -m gallery_service users add'")
    return Accounts(identities.repository)


AdminOfAll = Annotated[Caller, Depends(admin_of_everything)]
Managed = Annotated[Accounts, Depends(managed_accounts)]


@users_pages.get("")
def users_page(request: Request, caller: AdminOfAll) -> Response:
    """Everybody, and their keys."""
    identities: Identities = request.app.state.identities
    accounts = Accounts(identities.repository) if identities.has_users else None
    return render(
        request,
        "admin/users.html",
        users=[] if accounts is None else accounts.users(),
        keys=[] if accounts is None else accounts.all_keys(),
        roles=list(Role),
        format_right=format_right,
        day=_day,
        now=now_us(),
    )


@users_pages.post("")
def add_user(
    request: Request,
    caller: AdminOfAll,
    accounts: Managed,
    name: Annotated[str, Form()],
    role: Annotated[Role, Form()],
    password: Annotated[str, Form()],
    rights: Annotated[str, Form()] = "",
) -> Response:
    """Add somebody."""
    accounts.add_user(caller, name.strip(), role, password, rights.split())
    return go_to(request, "/users")


@users_pages.post("/{name}")
def change_user(
    request: Request,
    caller: AdminOfAll,
    accounts: Managed,
    name: str,
    role: Annotated[Role, Form()],
    rights: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
) -> Response:
    """Set somebody's role and rights and, where one is given, their password."""
    accounts.set_user(caller, name, role, rights.split(), password or None)
    return go_to(request, "/users")


@users_pages.post("/{name}/disabled")
def disable_user(
    request: Request, caller: AdminOfAll, accounts: Managed, name: str, disabled: Annotated[bool, Form()]
) -> Response:
    """Shut somebody out, or let them in again."""
    if name == caller.name and disabled:
        raise BadQuery("you cannot shut yourself out; another admin can")
    (accounts.disable if disabled else accounts.enable)(caller, name)
    return go_to(request, "/users")


@users_pages.post("/{name}/keys")
def add_key(
    request: Request,
    caller: AdminOfAll,
    accounts: Managed,
    name: str,
    purpose: Annotated[str, Form()],
    days: Annotated[int, Form()],
) -> Response:
    """Make a key, which is shown this once."""
    made = accounts.add_key(caller, name, purpose, days)
    return render(request, "admin/new_key.html", made=made, day=_day)


@users_pages.post("/keys/{key_id}/revoked")
def revoke_key(request: Request, caller: AdminOfAll, accounts: Managed, key_id: str) -> Response:
    """Let a key open nothing any more."""
    accounts.revoke_key(caller, key_id)
    return go_to(request, "/users")


def _day(microseconds: int) -> str:
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return f"{moment.day} {moment:%b %Y}"
