"""Running the service: where it may listen, when it says that it does, how it stops."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from functools import partial

import uvicorn
from fastapi import FastAPI

from gallery_service.errors import GalleryError
from gallery_service.settings import ServiceSettings
from gallery_service.web.certificate import Certificate
from gallery_service.web.patience import PatientProtocol

_LOOK_FOR_CERTIFICATE_S = 10


def listening_socket(host: str, port: int, *, has_users: bool, names: Sequence[str] = ()) -> socket.socket:
    """A socket to serve on.

    Args:
        host: an IP address, or localhost.
        port: 0 lets the system choose.
        has_users: everybody has to sign in; else only programs on this machine may reach it.
        names: of other hosts that it answers under, behind a reverse proxy.

    Raises:
        GalleryError: the host is no address, or another one than this machine's own, or a reverse proxy's, while there
            is no user who could be asked to sign in; or the port cannot be had.
    """
    if names and not has_users:
        raise GalleryError(
            f"CALR_SERVICE_ALLOWED_HOSTS names {', '.join(names)}, but no user is configured who could sign in from "
            "there: add one first ('python -m gallery_service users add --help'), see that CALR_SITES is the folder "
            "whose service.sqlite has them, or unset it"
        )
    address = "127.0.0.1" if host == "localhost" else host
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        parsed = None
    if parsed is None or not (parsed.is_loopback or has_users):
        raise GalleryError(
            f"--host {host!r} is no IP address of this machine; 0.0.0.0 stands for all of them"
            if has_users
            else f"no user is configured, so the service only listens on this machine: use --host 127.0.0.1, not "
            f"{host!r}, or add a user first ('python -m gallery_service users add --help')"
        )
    listening = socket.socket(socket.AF_INET6 if parsed.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise GalleryError(
            f"cannot listen on {host} port {port} ({reason}); stop what uses it or choose another with --port"
        ) from None
    listening.set_inheritable(True)
    return listening


def address_of(listening: socket.socket, scheme: str = "http") -> str:
    """The service's address for a browser."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only programs on this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def run(
    app: FastAPI,
    listening: socket.socket,
    settings: ServiceSettings,
    announce: Callable[[], None],
    certificate: Certificate | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that run then may finish.

    Args:
        announce: called once requests are answered.
        certificate: to speak TLS with; None: plain HTTP.
    """

    class Protocol(PatientProtocol):
        header_timeout_s = settings.header_timeout_s
        reading_timeout_s = settings.reading_timeout_s

    async def renew() -> None:
        if certificate is not None and config.ssl is not None:
            certificate.renew(config.ssl)

    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.shutdown_s,
        callback_notify=renew,
        timeout_notify=_LOOK_FOR_CERTIFICATE_S,
        ssl_certfile=None if certificate is None else certificate.certificate,
        ssl_keyfile=None if certificate is None else certificate.key,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            if certificate is not None:
                # A client that does not even begin to speak TLS would be borne with for a minute, and is not counted.
                loop = asyncio.get_running_loop()
                patient = partial(loop.create_server, ssl_handshake_timeout=settings.header_timeout_s)
                loop.create_server = patient  # type: ignore[method-assign]
            await super().startup(sockets)
            if not self.should_exit:
                announce()

    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn hands the signal on once it has stopped gracefully
    finally:
        listening.close()
