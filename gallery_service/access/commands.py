"""python -m gallery_service users and keys: who may use the service."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from gallery_service.access.accounts import Accounts
from gallery_service.access.database import service_database
from gallery_service.access.repository import AccessRepository, Key, User
from gallery_service.access.rights import format_right
from gallery_service.caller import Role, at_the_command_line
from gallery_service.command_errors import readable_errors
from gallery_service.errors import GalleryError
from gallery_service.search.filters import format_moment

users = typer.Typer(
    help="""Who may sign in, as what, and which cameras they may see.

    While there is no user, the service listens on this machine only and whoever is there is admin. From the first user
    on everybody has to sign in, and the service may listen on other addresses.

    Roles: a viewer looks at investigations, their crops and clips; an investigator searches and keeps investigations;
    an admin also manages users, models, erasure and the audit log. Every role sees only the cameras it was granted:
    lobby/entrance is one camera, lobby all cameras of a site, '*' everything.

    Users are kept in $CALR_SITES/service.sqlite, or in the database that CALR_DATABASE names, for all sites.""",
    no_args_is_help=True,
)
keys = typer.Typer(
    help="""API keys for programs: 'Authorization: Bearer calr_...'.

    A key acts as its user, sees what they see and ends with them. It is shown once, when it is made; only its hash is
    kept.""",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
RightsArgument = Annotated[
    list[str], typer.Argument(metavar="RIGHT...", help="SITE/CAMERA, SITE for all its cameras, or '*' for everything.")
]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, not from the terminal.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON on standard output.")]


@users.command("add")
def add_user(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="What they may do.")],
    see: Annotated[
        list[str] | None, typer.Option(metavar="RIGHT", help="What they may see, as for `grant`; can be repeated.")
    ] = None,
    password_stdin: StdinOption = False,
) -> None:
    """Add a user. The password is asked for.

    Such as: users add anna --role admin --see '*'
    """
    with readable_errors(), _accounts() as accounts:
        password = _password(password_stdin)
        user = accounts.add_user(at_the_command_line(), name, role, password, see or [])
        print(f"added {_told(user)}", file=sys.stderr)


@users.command("list")
def list_users(json_: JsonOption = False) -> None:
    """Show all users."""
    with readable_errors(), _accounts() as accounts:
        for user in accounts.users():
            print(json.dumps(_user_json(user)) if json_ else _told(user))


@users.command("disable")
def disable_user(name: NameArgument) -> None:
    """Let a user do nothing any more, at once: sessions end, keys open nothing. `enable` undoes it."""
    with readable_errors(), _accounts() as accounts:
        accounts.disable(at_the_command_line(), name)
        print(f"disabled {name}", file=sys.stderr)


@users.command("enable")
def enable_user(name: NameArgument) -> None:
    """Let a disabled user back in."""
    with readable_errors(), _accounts() as accounts:
        accounts.enable(at_the_command_line(), name)
        print(f"enabled {name}", file=sys.stderr)


@users.command("password")
def set_password(name: NameArgument, password_stdin: StdinOption = False) -> None:
    """Give a user another password. Their sessions end; their keys stay."""
    with readable_errors(), _accounts() as accounts:
        accounts.user(name)
        accounts.set_password(at_the_command_line(), name, _password(password_stdin))
        print(f"{name} has another password", file=sys.stderr)


@users.command("role")
def set_role(name: NameArgument, role: Annotated[Role, typer.Argument(help="What they may do.")]) -> None:
    """Give a user another role. Their sessions end."""
    with readable_errors(), _accounts() as accounts:
        accounts.set_role(at_the_command_line(), name, role)
        print(f"{name} is {role}", file=sys.stderr)


@users.command("grant")
def grant(name: NameArgument, rights: RightsArgument) -> None:
    """Let a user see more. Such as: users grant eve lobby/entrance plaza"""
    with readable_errors(), _accounts() as accounts:
        print(_told(accounts.grant(at_the_command_line(), name, rights)), file=sys.stderr)


@users.command("revoke")
def revoke(name: NameArgument, rights: RightsArgument) -> None:
    """Take back what was granted. To leave one camera out of a whole site, grant the others first."""
    with readable_errors(), _accounts() as accounts:
        print(_told(accounts.revoke(at_the_command_line(), name, rights)), file=sys.stderr)


@keys.command("add")
def add_key(
    user: Annotated[str, typer.Argument(metavar="USER", help="As whom it acts.")],
    name: Annotated[str, typer.Option(help="What it is for, such as 'nightly export'.")],
    days: Annotated[int, typer.Option(help="After how many days it opens nothing any more.")] = 90,
) -> None:
    """Make a key and print it on standard output, this once."""
    with readable_errors(), _accounts() as accounts:
        made = accounts.add_key(at_the_command_line(), user, name, days)
        until = format_moment(made.key.expires_at)
        print(f"key {made.key.key_id} of {user} until {until}; it is not shown again:", file=sys.stderr)
        print(made.secret)


@keys.command("list")
def list_keys(json_: JsonOption = False) -> None:
    """Show all keys, revoked and expired ones too; never what opens anything."""
    with readable_errors(), _accounts() as accounts:
        for key in accounts.all_keys():
            print(json.dumps(_key_json(key)) if json_ else _told_key(key))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `keys list` shows it.")]) -> None:
    """Let a key open nothing any more, at once."""
    with readable_errors(), _accounts() as accounts:
        key = accounts.revoke_key(at_the_command_line(), key_id)
        print(f"revoked {_told_key(key)}", file=sys.stderr)


@contextmanager
def _accounts() -> Iterator[Accounts]:
    repository = AccessRepository(service_database())
    try:
        yield Accounts(repository)
    finally:
        repository.close()


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise GalleryError("there is no terminal to ask for the password on; give it with --password-stdin")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _told(user: User) -> str:
    sees = " ".join(map(format_right, user.rights)) or "nothing yet ('users grant' changes that)"
    return f"{user.name}, {user.role}{', disabled' if user.disabled_at is not None else ''}, sees {sees}"


def _told_key(key: Key) -> str:
    state = "revoked" if key.revoked_at is not None else f"until {format_moment(key.expires_at)}"
    return f"{key.key_id} of {key.user}, {json.dumps(key.name)}, {state}"


def _user_json(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role,
        "rights": [format_right(right) for right in user.rights],
        "created_at": format_moment(user.created_at),
        "disabled_at": format_moment(user.disabled_at),
    }


def _key_json(key: Key) -> dict[str, Any]:
    moments = ("created_at", "expires_at", "revoked_at")
    return {**vars(key), **{name: format_moment(getattr(key, name)) for name in moments}}
