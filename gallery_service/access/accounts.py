"""Managing users and keys: what the commands and an admin's API have in common."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from gallery_service.access.passwords import hash_password
from gallery_service.access.repository import AccessRepository, Key, User
from gallery_service.access.rights import EVERYTHING, format_right, parse_right
from gallery_service.access.tokens import new_key, token_hash
from gallery_service.caller import LOCAL, Caller, Role
from gallery_service.errors import BadQuery, Conflict, NotFound

MAX_DAYS = 3650
DAY_US = 24 * 3600 * 1_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_MAX_KEY_NAME = 80


def now_us() -> int:
    """Now, UTC microseconds."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class NewKey:
    """A key that was just made: the only time that it can be shown."""

    key: Key
    secret: str


class Accounts:
    """Users and keys.

    Args:
        repository: where they are kept.
    """

    def __init__(self, repository: AccessRepository) -> None:
        self._repository = repository

    def users(self) -> list[User]:
        """All of them, by name."""
        return self._repository.users()

    def user(self, name: str) -> User:
        """One of them.

        Raises:
            NotFound: there is none of that name.
        """
        found = self._repository.user(name)
        if found is None:
            raise NotFound(f"there is no user {name[:64]!r}")
        return found

    def add_user(self, by: Caller, name: str, role: Role, password: str, rights: Iterable[str]) -> User:
        """Add a user.

        Args:
            by: who does it.
            name: small letters, digits and . _ @ -.
            role: what they may do.
            password: to sign in with.
            rights: what they may see, as `gallery_service.access.rights` has it.

        Raises:
            BadQuery: a name, password or right that is none.
            Conflict: the name is taken.
        """
        if not _NAME.fullmatch(name) or name == LOCAL.name:
            raise BadQuery(
                f"{name[:64]!r} cannot be a user's name; use 1 to 64 small letters, digits and . _ @ -, "
                f"beginning with a letter or digit, and not '{LOCAL.name}'"
            )
        parsed = [parse_right(right) for right in rights]
        if not self._repository.add_user(by, name, role, hash_password(password), parsed, now_us()):
            raise Conflict(f"there is a user {name!r} already; a disabled one can be enabled again")
        return self.user(name)

    def set_user(self, by: Caller, name: str, role: Role, rights: Iterable[str], password: str | None = None) -> None:
        """Set a user's role, rights and, where one is given, password: all of it or nothing.

        Raises:
            NotFound, BadQuery: no such user, or no such right or password; or whoever manages users would shut
                themselves out.
        """
        self.user(name)
        parsed = [parse_right(right) for right in rights]
        if name == by.name and (role != Role.ADMIN or EVERYTHING not in parsed):
            raise BadQuery(
                f"you cannot take the role of an admin, or the right to see everything ('{format_right(EVERYTHING)}'), "
                "from yourself; another admin can"
            )
        hashed = None if password is None else hash_password(password)
        self._repository.set_user(by, name, role, parsed, hashed)

    def set_password(self, by: Caller, name: str, password: str) -> None:
        """Give a user another password.

        Raises:
            NotFound, BadQuery: no such user, or no such password.
        """
        self.user(name)
        self._repository.change_user(by, name, "user.password", password=hash_password(password))

    def set_role(self, by: Caller, name: str, role: Role) -> None:
        """Give a user another role.

        Raises:
            NotFound: no such user.
        """
        self.user(name)
        self._repository.change_user(by, name, "user.role", role=role)

    def disable(self, by: Caller, name: str) -> None:
        """Let a user, and their keys, do nothing any more. They stay, since the audit log names them.

        Raises:
            NotFound: no such user.
        """
        if self.user(name).disabled_at is None:
            self._repository.change_user(by, name, "user.disabled", disabled_at=now_us())

    def enable(self, by: Caller, name: str) -> None:
        """Let a user back in.

        Raises:
            NotFound: no such user.
        """
        if self.user(name).disabled_at is not None:
            self._repository.change_user(by, name, "user.enabled", disabled_at=None)

    def grant(self, by: Caller, name: str, rights: Iterable[str]) -> User:
        """Let a user see more.

        Raises:
            NotFound, BadQuery: no such user, or no such right.
        """
        self.user(name)
        self._repository.grant(by, name, [parse_right(right) for right in rights])
        return self.user(name)

    def revoke(self, by: Caller, name: str, rights: Iterable[str]) -> User:
        """Let a user see less: takes back rights as they were granted, so that taking a camera from somebody who may
        see the whole site is refused, and not silently without effect.

        Raises:
            NotFound, BadQuery: no such user, or no such right.
            Conflict: a right that they do not have.
        """
        held = set(self.user(name).rights)
        parsed = [parse_right(right) for right in rights]
        for text, right in zip(rights, parsed, strict=True):
            if right not in held:
                raise Conflict(f"{name} was not granted {text!r}; 'users list' shows what was")
        self._repository.revoke(by, name, parsed)
        return self.user(name)

    def all_keys(self) -> list[Key]:
        """All keys, revoked and expired ones too."""
        return self._repository.keys()

    def add_key(self, by: Caller, user: str, name: str, days: int) -> NewKey:
        """Make a key that acts as a user.

        Args:
            by: who does it.
            user: as whom it acts.
            name: what it is for.
            days: how long it opens anything.

        Raises:
            NotFound: no such user.
            BadQuery: a name or a time that is none.
        """
        self.user(user)
        if not name.strip() or len(name) > _MAX_KEY_NAME or not name.isprintable():
            raise BadQuery(f"a key's name says what it is for, in 1 to {_MAX_KEY_NAME} characters")
        if not 1 <= days <= MAX_DAYS:
            raise BadQuery(f"a key lasts 1 to {MAX_DAYS} days, not {days}")
        secret, at = new_key(), now_us()
        key = Key(secrets.token_hex(4), user, name.strip(), at, at + days * DAY_US, None)
        self._repository.add_key(by, key, token_hash(secret))
        return NewKey(key, secret)

    def revoke_key(self, by: Caller, key_id: str) -> Key:
        """Let a key open nothing any more.

        Raises:
            NotFound: no such key.
        """
        found = self._repository.keys(key_id)
        if not found:
            raise NotFound(f"there is no key {key_id[:20]!r}; 'keys list' shows them")
        if found[0].revoked_at is None:
            self._repository.revoke_key(by, found[0], now_us())
        return self._repository.keys(key_id)[0]
