"""Running the service: where it may listen, when it says that it does, how it stops."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from gallery_service.errors import GalleryError
from gallery_service.patience import PatientProtocol
from gallery_service.settings import ServiceSettings


def loopback_socket(host: str, port: int) -> socket.socket:
    """A listening socket that only programs on this machine can reach.

    Args:
        host: 127.0.0.1, ::1 or localhost.
        port: 0 lets the system choose.

    Raises:
        GalleryError: the host is another one, since no user is configured who could be asked to sign in; or the port
            cannot be had.
    """
    address = "127.0.0.1" if host == "localhost" else host
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        parsed = None
    if parsed is None or not parsed.is_loopback:
        raise GalleryError(
            f"no user is configured, so the service only listens on this machine: use --host 127.0.0.1, not {host!r}"
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


def address_of(listening: socket.socket) -> str:
    """The service's address for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listening: socket.socket, settings: ServiceSettings, announce: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that run then may finish.

    Args:
        announce: called once requests are answered.
    """

    class Protocol(PatientProtocol):
        header_timeout_s = settings.header_timeout_s

    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.shutdown_s,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                announce()

    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn hands the signal on once it has stopped gracefully
    finally:
        listening.close()
