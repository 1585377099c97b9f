"""Who asks: an API key, a session's cookie, or, while no user is configured, whoever is at this machine."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from gallery_service.access.accounts import now_us
from gallery_service.access.attempts import Attempts
from gallery_service.access.passwords import hash_password, is_outdated, is_password
from gallery_service.access.repository import AccessRepository, OpenSession, User
from gallery_service.access.rights import rights_by_site
from gallery_service.access.tokens import looks_like_key, new_session_token, token_hash
from gallery_service.audit.recently import Recently
from gallery_service.caller import LOCAL, Caller, Role
from gallery_service.databases.database import Database
from gallery_service.errors import DatabaseUnavailable, Forbidden, NotSignedIn

MINUTE_US = 60 * 1_000_000
# Whose sign-in failed, where no user has that name. What was typed may be a password, so it is not kept.
_NOBODY = Caller("nobody", Role.VIEWER, {})


@dataclass(frozen=True)
class Identity:
    """Who asks.

    Attributes:
        caller: what the rest of the service knows of them.
        session: the token of the cookie that says so; None for keys and for whoever is at this machine.
    """

    caller: Caller
    session: str | None


class Identities:
    """Finds out who asks. Safe to use from several threads.

    Args:
        database: of users. While it is missing or has no user, whoever is at this machine is `LOCAL`, and nobody else
            is let in; once this process has seen a user, never again.
        session_hours: after which a session ends even in use.
        idle_minutes: after which it ends unused.
    """

    def __init__(self, database: Database, session_hours: float = 12.0, idle_minutes: float = 60.0) -> None:
        self._database = database
        self._session_us = int(session_hours * 60 * MINUTE_US)
        self._idle_us = int(idle_minutes * MINUTE_US)
        self._opened: tuple[Hashable, AccessRepository] | None = None
        self._has_users = False
        self._opening = threading.Lock()
        self._attempts = Attempts()
        self._recorded = Recently()

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened[1].close()
        self._database.close()

    @property
    def has_users(self) -> bool:
        """Whether everybody has to sign in."""
        if not self._has_users:
            there = self._opened is not None or self._database.identity() is not None
            self._has_users = there and self.repository.any_user()
        return self._has_users

    @property
    def repository(self) -> AccessRepository:
        """Where users are kept, opened anew when another database lies there now: who is shut out in one that was put
        back from a backup must not be let in by the one before.

        Raises:
            DatabaseUnavailable: it cannot be reached, or it or its users are gone though there were some.
        """
        identity = self._database.identity()
        if identity is None and self._has_users:
            raise DatabaseUnavailable(f"{self._database.place}: is gone; put it back from a backup")
        opened = self._opened
        if opened is not None and opened[0] == identity:
            return opened[1]
        with self._opening:
            # Asked before it is opened: what takes its place meanwhile is opened the next time.
            identity = self._database.identity()
            if self._opened is None or self._opened[0] != identity:
                repository = AccessRepository(self._database)
                if self._has_users and not repository.any_user():
                    repository.close()
                    raise DatabaseUnavailable(f"{self._database.place}: has no users; put it back from a backup")
                if self._opened is not None:
                    self._opened[1].close()
                self._opened = (identity or self._database.identity(), repository)
            return self._opened[1]

    def identify(self, authorization: str | None, session: str | None, *, at_this_machine: bool) -> Identity | None:
        """Who asks; None when that cannot be said.

        Args:
            authorization: the header of that name.
            session: what the session's cookie holds.
            at_this_machine: a program there asks, and for nobody else.

        Raises:
            NotSignedIn: what was sent to say so is wrong; the message tells how.
            Forbidden: there are no users yet, and it is nobody at this machine.
        """
        if not self.has_users:
            if not at_this_machine:
                raise Forbidden(
                    "no user is configured here, so only programs on the service's own machine are answered; add a "
                    "user there with 'python -m gallery_service users add'"
                )
            return Identity(LOCAL, None)
        if authorization is not None:
            return Identity(self._by_key(authorization), None)
        caller = None if session is None else self._by_session(session)
        return None if caller is None else Identity(caller, session)

    def _by_key(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not looks_like_key(secret.strip()):
            raise NotSignedIn("send an API key as 'Authorization: Bearer calr_...'; 'keys add' makes one")
        repository = self.repository
        key = repository.key(token_hash(secret.strip()))
        if key is None:
            raise NotSignedIn("there is no such API key; an admin can make one")
        user = repository.user(key.user)
        problem = None
        if key.revoked_at is not None:
            problem = "revoked"
        elif key.expires_at <= now_us():
            problem = "expired"
        elif user is None or user.disabled_at is not None:
            problem = "of a user who is disabled"
        if user is None or problem is not None:
            self._record_once(Caller(key.user, Role.VIEWER, {}), "refused", {"key_id": key.key_id, "problem": problem})
            raise NotSignedIn(f"the API key {key.key_id} is {problem}; an admin can make another")
        return _caller(user, f"key {key.name}")

    def _by_session(self, token: str) -> Caller | None:
        sha256, now, repository = token_hash(token), now_us(), self.repository
        found = repository.session(sha256)
        if found is None or found.expires_at <= now or found.used_at + self._idle_us <= now:
            return None
        user = repository.user(found.user)
        if user is None or user.disabled_at is not None:
            return None
        if found.used_at + MINUTE_US <= now:
            repository.touch(sha256, now)
        return _caller(user, "session")

    def sign_in(self, name: str, password: str, address: str) -> str:
        """Begin a session.

        Args:
            name, password: as they were typed.
            address: where from.

        Returns:
            The token for the cookie.

        Raises:
            NotSignedIn: name and password are nobody's; the message does not say which of the two is wrong, and a name
                that nobody has takes as long as one that somebody has.
            TooManyAttempts: that happened too often.
        """
        name = name.strip().lower()
        repository = self.repository  # first: nobody is to blame for a database that cannot be reached
        self._attempts.begin(name, address)
        kept = repository.password(name)
        right = is_password(password, kept)
        user = repository.user(name)
        if not right or user is None or kept is None:
            known = _NOBODY if user is None else _caller(user, "")
            repository.record(known, "sign-in.refused", {"address": address})
            raise NotSignedIn("name or password is wrong")
        self._attempts.succeeded(name, address)
        if is_outdated(kept):
            repository.keep_password(name, hash_password(password))
        token, now = new_session_token(), now_us()
        opened = OpenSession(token_hash(token), name, now, now + self._session_us)
        repository.sign_in(_caller(user, "session"), opened, address)
        return token

    def sign_out(self, caller: Caller, token: str) -> None:
        """End a session."""
        self.repository.sign_out(caller, token_hash(token))

    def record_refusal(self, caller: Caller, route: str, problem: str) -> None:
        """Note that somebody asked for what is not for them; the same again within some minutes only once."""
        if self.has_users:
            self._record_once(caller, "refused", {"route": route, "problem": problem})

    def _record_once(self, caller: Caller, action: str, details: Mapping[str, Any]) -> None:
        thing = (caller.name, action, *map(str, details.values()))
        if not self._recorded.has(*thing):
            self.repository.record(caller, action, details)
            self._recorded.add([thing])


def _caller(user: User, via: str) -> Caller:
    return Caller(user.name, Role(user.role), rights_by_site(user.rights), via)
