"""The PostgreSQL server that the environment variable CALR_DATABASE names, and connections to it.

The variable holds a password, perhaps: neither it nor anything made of the whole of it is ever shown.
"""

from __future__ import annotations

import os

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, NotSupportedError, OperationalError

from gallery_service.errors import BadQuery, DatabaseUnavailable, GalleryError

VARIABLE = "CALR_DATABASE"
_FORM = "postgresql://USER:PASSWORD@HOST/DATABASE, with %XX for special characters of the password"
_CONNECT_S = 10
# As long as a writer waits for a SQLite file.
_WAIT_S = 30
# A transaction in which nothing is asked for so long belongs to a process that hangs, or to a machine that is gone;
# it must not keep the writers waiting.
_IDLE_S = 300
_INSUFFICIENT_PRIVILEGE = "42501"


def server_url() -> URL | None:
    """What CALR_DATABASE says; None where it is not set.

    Raises:
        GalleryError: it is no address of a PostgreSQL database.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise GalleryError(f"{VARIABLE}: is no database's address; write it as {_FORM}") from None
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise GalleryError(
            f"{VARIABLE}: names a database of the kind '{url.drivername}'; only PostgreSQL is supported, as {_FORM}"
        )
    if not url.database:
        raise GalleryError(f"{VARIABLE}: names no database; write it as {_FORM}")
    return url.set(drivername="postgresql+psycopg")


def server_name(url: URL) -> str:
    """Where the server is, without user or password."""
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host or "this machine"
    return f"{host}{'' if url.port is None else f':{url.port}'}/{url.database}"


def postgres_engine(url: URL, schema: str) -> Engine:
    """Connections that see one schema. Nothing is connected yet.

    Args:
        url: from `server_url`.
        schema: which need not exist.

    Raises:
        GalleryError: the driver is not installed.
    """
    # In the connection's own start, so that there is none without them.
    options = {
        "search_path": f'"{schema}"',
        "default_transaction_isolation": r"repeatable\ read",
        "default_transaction_read_only": "on",
        "lock_timeout": f"{_WAIT_S}s",
        "idle_in_transaction_session_timeout": f"{_IDLE_S}s",
        "client_encoding": "UTF8",
    }
    own = url.query.get("options", "")
    started_with = " ".join(
        [own if isinstance(own, str) else " ".join(own), *(f"-c {k}={options[k]}" for k in options)]
    )
    try:
        engine = create_engine(
            url,
            # A connection that a restart of the server has cut is noticed before it is used.
            pool_pre_ping=True,
            # Statements may hold what is about people: they do not belong into logs.
            hide_parameters=True,
            connect_args={
                "options": started_with.strip(),
                "connect_timeout": _CONNECT_S,
                # A server that vanishes without a word is given up after half a minute, not after a quarter of an hour.
                "tcp_user_timeout": _WAIT_S * 1000,
                "keepalives_idle": _WAIT_S,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "application_name": "calr",
            },
        )
    except ModuleNotFoundError as error:
        raise GalleryError(
            f"{VARIABLE} is set, but the package '{error.name}' is not installed; install the extra 'postgres': "
            ".venv/bin/uv pip install --python .venv/bin/python --constraint constraints.txt -e '.[postgres]'"
        ) from None

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            # What is read once the lock is there must be of that moment, not of the one when the waiting began.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (schema,))

    def translate(context: ExceptionContext) -> None:
        if context.is_pre_ping:
            return
        error, cause = context.sqlalchemy_exception, context.original_exception
        reason = _one_line(cause)
        # NotSupported: a standby, which cannot be written to.
        if isinstance(error, (OperationalError, NotSupportedError)):
            raise DatabaseUnavailable(
                f"{VARIABLE}: the database at {server_name(url)} cannot be used ({reason}); see that the server runs "
                "and that the variable has the right address, user and password"
            ) from cause
        if getattr(cause, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
            raise GalleryError(
                f"{VARIABLE}: its user may not do what is needed at {server_name(url)} ({reason}); as the database's "
                f'owner: GRANT CREATE ON DATABASE "{url.database}" TO that user'
            ) from cause
        if isinstance(error, DataError):
            raise BadQuery(f"holds what the database cannot keep ({reason}); leave it out") from cause

    event.listen(engine, "begin", begin)
    event.listen(engine, "handle_error", translate)
    return engine


def _one_line(error: BaseException) -> str:
    """A server's or the driver's message. They name hosts, users and databases, never a password."""
    return " ".join(str(error).split()) or type(error).__name__
