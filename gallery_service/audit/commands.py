"""python -m gallery_service audit: check, anchor and read an audit log."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from gallery_service.audit.entry_form import entry_json
from gallery_service.audit.trail import AuditTrail, EntryFilter
from gallery_service.command_errors import readable_errors
from gallery_service.databases.database import Database
from gallery_service.errors import GalleryError

app = typer.Typer(
    help="""The record of who did what: check that nobody changed it, and read it.

    Each entry holds a hash of itself and of the entry before, so a change made afterwards shows. What is cut off at the
    end shows only against a hash kept elsewhere: let `audit head` print one every day to a place that whoever runs this
    machine cannot write to, and give it to `audit verify --head`.

    SITE is the site's name or folder; 'users' is the log of users, keys and sign-ins, which belong to no site.""",
    no_args_is_help=True,
)

LogArgument = Annotated[
    str, typer.Argument(metavar="SITE", help="Name of a site or its folder; 'users' for users, keys and sign-ins.")
]
_HASH = re.compile(r"[0-9a-f]{64}")
_PAGE = 500
USERS = "users"
"""In the place of a site: the log of users, keys and sign-ins. A site of that name is meant by its folder."""


@app.command("verify")
def verify_log(
    site: LogArgument,
    head: Annotated[str | None, typer.Option(help="A hash that `audit head` printed earlier.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON on standard output.")] = False,
) -> None:
    """Check the whole log. Exit status 0: whole. 1: broken, the first bad entry is named."""
    with readable_errors():
        if head is not None and not _HASH.fullmatch(head):
            raise GalleryError("--head: give the 64 hexadecimal digits that 'audit head' printed")
        with _trail(site) as trail:
            verdict = trail.verify(head)
        if json_:
            print(json.dumps({"whole": verdict.problem is None, **vars(verdict)}))
        if verdict.problem is not None:
            print(f"broken: {verdict.problem}", file=sys.stderr)
            raise typer.Exit(1)
        print(f"whole: {verdict.entries} entries, head {verdict.head}", file=sys.stderr)


@app.command("head")
def print_head(site: LogArgument) -> None:
    """Print the hash of the newest entry, to be kept elsewhere."""
    with readable_errors(), _trail(site) as trail:
        entries, head = trail.head()
        print(f"{entries} entries", file=sys.stderr)
        print(head)


@app.command("show")
def show_entries(
    site: LogArgument,
    who: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as search, clip or user.added.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 with offset.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339 with offset.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 100,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object per line on standard output.")] = False,
) -> None:
    """Print entries, the newest first."""
    with readable_errors():
        from gallery_service.search.filters import parse_moment

        wanted = EntryFilter(
            who,
            action,
            parse_moment(since, "--since") if since else None,
            parse_moment(until, "--until") if until else None,
        )
        with _trail(site) as trail:
            before: int | None = None
            while limit > 0:
                found = trail.newest(wanted, before, min(limit, _PAGE))
                for entry, hash_ in found:
                    shown = entry_json(entry, hash_)
                    print(json.dumps(shown) if json_ else _line(shown))
                if not found:
                    break
                before, limit = found[-1][0].id, limit - len(found)


def _line(entry: dict[str, object]) -> str:
    # JSON's escapes keep what a client sent from steering the terminal.
    purpose = f" for {json.dumps(entry['purpose'])}" if entry["purpose"] else ""
    who = f"{entry['who']} ({entry['via']})" if entry["via"] else entry["who"]
    return f"{entry['id']:>7} {entry['at']} {who} {entry['action']}{purpose} {json.dumps(entry['details'])}"


@contextmanager
def _trail(ref: str) -> Iterator[AuditTrail]:
    """The log that is meant. Opened as it is, not made."""
    if ref == USERS:
        from gallery_service.access.database import service_database
        from gallery_service.access.repository import AccessRepository

        accounts = AccessRepository(_existing(service_database(), "no user was ever added"))
        try:
            yield accounts.audit
        finally:
            accounts.close()
        return
    from gallery_service.databases.gallery import gallery_database
    from gallery_service.storage.repository import GalleryRepository
    from ingest.site import load_site
    from ingest.workspace import Workspace

    database = _existing(gallery_database(Workspace(load_site(ref))), f"site '{ref}' has no gallery yet")
    repository = GalleryRepository(database.open())
    try:
        yield repository.audit
    finally:
        repository.close()


def _existing(database: Database, why: str) -> Database:
    if not database.exists():
        raise GalleryError(f"nothing was recorded, since {why}: {database.place} is not there")
    return database
