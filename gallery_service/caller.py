"""Who asks, and what they may see: the one value that every read of rows and files is narrowed by."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from fastapi import Request

from gallery_service.errors import NotSignedIn

ALL_CAMERAS = "*"
"""In rights: every camera of the site, also ones it will have later."""


class Role(StrEnum):
    """What someone may do; each role may do what those before it may.

    A viewer looks at investigations and their crops and clips, an investigator searches and keeps investigations, an
    admin also manages users, models, erasure and the audit log.
    """

    VIEWER = "viewer"
    INVESTIGATOR = "investigator"
    ADMIN = "admin"


_ORDER = tuple(Role)


@dataclass(frozen=True)
class Caller:
    """Someone who was let in.

    Attributes:
        name: of the user, as the audit log has it.
        role: what they may do.
        rights: camera ids by site, `ALL_CAMERAS` among them for all; None: every camera of every site.
        via: how they came, for the audit log: a session, the name of an API key, the command line.
    """

    name: str
    role: Role
    rights: Mapping[str, frozenset[str]] | None
    via: str = ""

    def may(self, role: Role) -> bool:
        """Whether they may do what `role` may."""
        return _ORDER.index(self.role) >= _ORDER.index(role)

    def cameras(self, site: str) -> frozenset[str] | None:
        """The cameras of a site that they may see; None: all of them."""
        if self.rights is None:
            return None
        seen = self.rights.get(site, frozenset())
        return None if ALL_CAMERAS in seen else seen

    def sees(self, site: str, camera: str) -> bool:
        """Whether they may see what this camera recorded."""
        cameras = self.cameras(site)
        return cameras is None or camera in cameras

    def sees_site(self, site: str) -> bool:
        """Whether they may see any camera of the site."""
        cameras = self.cameras(site)
        return cameras is None or bool(cameras)


LOCAL = Caller("local", Role.ADMIN, None, "this machine")
"""Whoever is at the machine itself, while no user is configured."""


def at_the_command_line() -> Caller:
    """Whoever runs a command: they can read and write all files anyway."""
    try:
        account = getpass.getuser()
    except (OSError, KeyError):  # a container's number without a name
        account = str(os.getuid())
    return replace(LOCAL, via=f"command line of {account}")


def caller_of(request: Request) -> Caller:
    """The caller of a request, a FastAPI dependency. Who they are was found out before (`gallery_service.access.gate`).

    Raises:
        NotSignedIn: nobody knows.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise NotSignedIn("sign in, or send an API key as 'Authorization: Bearer calr_...'")
    return caller
