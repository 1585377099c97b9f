"""Uploads that are too large, too slow or too many, over a real socket, and what they cost the service."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gallery_service.web.limits import LINGER_S
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, copy_site, run_service

MIB = 1024 * 1024
GB = 1_000_000_000
SEARCH = "/api/v1/sites/toy/search"
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
TAIL = b"\r\n--b--\r\n"


@pytest.fixture(scope="module")
def service(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """With a temporary folder of its own, to see that nothing is spooled, and little patience."""
    temporary = tmp_path_factory.mktemp("spool")
    site = copy_site(built_gallery, tmp_path_factory.mktemp("served"))
    with run_service(site.folder, env={"TMPDIR": str(temporary), "CALR_SERVICE_BODY_TIMEOUT_S": "5"}) as running:
        crop = encode_jpeg(synthetic.query_crop(0))
        assert httpx.post(running.url + SEARCH, files={"image": crop}, timeout=120).status_code == 200
        yield running


def memory(service: RunningService, what: str) -> int:
    """VmRSS or VmHWM of the service, bytes."""
    for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(what)


def open_files(service: RunningService) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{service.process.pid}/fd").iterdir():
        try:
            found.add(os.readlink(descriptor))
        except OSError:
            continue
    return found


def connect(service: RunningService) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=60)


def send_until_refused(service: RunningService, headers: str, chunked: bool) -> tuple[int, bytes]:
    """Send a gigabyte, as a client does that looks now and then whether it was refused: bytes sent, and the answer."""
    block = b"x" * 65536
    sent = 0
    with connect(service) as client:
        client.sendall(f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        client.setblocking(False)
        pending = HEAD if not chunked else b"%x\r\n%s\r\n" % (len(HEAD), HEAD)
        answer = b""
        deadline = time.monotonic() + 60
        while sent < GB and time.monotonic() < deadline:
            try:
                part = client.recv(65536)
                if not part:
                    break
                answer += part
                if b"\r\n\r\n" in answer:
                    break
            except BlockingIOError:
                pass
            except ConnectionResetError:
                break
            try:
                done = client.send(pending)
                sent += done
                pending = pending[done:] or (block if not chunked else b"%x\r\n%s\r\n" % (len(block), block))
            except BlockingIOError:
                time.sleep(0.001)
            except (BrokenPipeError, ConnectionResetError):
                continue
        client.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        while part := client.recv(65536):
            answer += part
    return sent, answer


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_a_gigabyte_is_refused_without_being_kept(service: RunningService, chunked: bool) -> None:
    before = memory(service, "VmRSS")
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GB}"
    sent, answer = send_until_refused(
        service, f"Content-Type: multipart/form-data; boundary=b\r\n{length}\r\n", chunked
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"10 MiB" in answer
    # The limit, what multipart adds, and what the sockets of both sides hold.
    assert sent < (10 * MIB if chunked else 0) + 16 * MIB
    assert memory(service, "VmHWM") < before + 100 * MIB
    assert not any("spool" in name for name in open_files(service))


def test_many_gigabytes_at_once_do_not_add_up(service: RunningService) -> None:
    before = memory(service, "VmRSS")
    headers = "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n"
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(send_until_refused(service, headers, True)[1])) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 413 "] * 6
    assert memory(service, "VmHWM") < before + 400 * MIB
    assert httpx.get(service.url + "/healthz").status_code == 200


def test_the_largest_allowed_upload_is_read_and_never_on_disk(service: RunningService) -> None:
    crop = encode_jpeg(synthetic.query_crop(0))
    padded = crop + bytes(10 * MIB - len(crop))  # what follows a JPEG's end is ignored
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.update(name for name in open_files(service) if "spool" in name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        response = httpx.post(service.url + SEARCH, files={"image": ("x.jpg", padded, "image/jpeg")}, timeout=120)
    finally:
        stop.set()
        watcher.join()
    assert response.status_code == 200
    assert not seen


@pytest.mark.parametrize("too_many", [20 * 1024, 30 * MIB])
def test_a_client_that_looks_only_after_sending_gets_the_reason(service: RunningService, too_many: int) -> None:
    """Most clients are like that; closing the connection on unread bytes would cost them the answer."""
    for _ in range(10):
        answer = httpx.post(
            service.url + SEARCH, files={"image": ("x.jpg", bytes(10 * MIB + too_many), "image/jpeg")}, timeout=120
        )
        assert answer.status_code == 413
        assert "10 MiB" in answer.json()["detail"]


def test_a_refused_client_cannot_go_on_for_ever(service: RunningService) -> None:
    with connect(service) as client:
        client.sendall(f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {GB}\r\n\r\n".encode())
        closed = time.monotonic() + 10 * LINGER_S
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < closed:
                client.sendall(b"x")
                time.sleep(0.05)


@pytest.mark.parametrize("value", ["-1", "1e3", "0x10", "99999999999999999999999999", " ", "10, 10"])
def test_strange_lengths_are_refused(service: RunningService, value: str) -> None:
    with connect(service) as client:
        client.sendall(f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {value}\r\n\r\n".encode())
        status = client.recv(65536).split(b" ")[1]
    assert status in (b"400", b"413", b"415")


def test_a_client_that_dawdles_is_turned_away(service: RunningService) -> None:
    with connect(service) as client:
        client.sendall(
            f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            + HEAD
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_halfway_does_no_harm(service: RunningService) -> None:
    for _ in range(5):
        with connect(service) as client:
            client.sendall(
                f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
                + HEAD
            )
    crop = encode_jpeg(synthetic.query_crop(0))
    assert httpx.post(service.url + SEARCH, files={"image": crop}, timeout=120).status_code == 200
    assert service.process.poll() is None


def test_silent_connections_lock_nobody_out(built_gallery: Path, tmp_path: Path) -> None:
    """One that says nothing, one that says half a request, one that had an answer: all are let go in time, and until
    then a search is answered beside them."""
    site = copy_site(built_gallery, tmp_path)
    half = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Sl"
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with run_service(site.folder, env={"CALR_SERVICE_HEADER_TIMEOUT_S": "4"}) as service:
        begun = time.monotonic()
        clients = [connect(service) for _ in range(96)]
        for number, client in enumerate(clients):
            client.sendall((b"", half, whole + half)[number % 3])
        crop = encode_jpeg(synthetic.query_crop(0))
        assert httpx.post(service.url + SEARCH, files={"image": crop}, timeout=120).status_code == 200
        for number, client in enumerate(clients):
            answer = b""
            while part := client.recv(65536):
                answer += part
            assert answer.startswith(b"HTTP/1.1 200 ") == (number % 3 == 2)
            client.close()
        assert time.monotonic() - begun >= 3.9  # nobody was hurried


def test_clients_that_do_not_read_keep_nobody_out(built_gallery: Path, tmp_path: Path) -> None:
    """They ask for more than any buffer holds and take none of it; in time they are let go."""
    site = copy_site(built_gallery, tmp_path)
    env = {"CALR_SERVICE_MAX_REQUESTS": "4", "CALR_SERVICE_READING_TIMEOUT_S": "5"}
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with run_service(site.folder, env=env) as service, ExitStack() as sitting:
        size = len(httpx.get(service.url + "/openapi.json").content)
        clients = []
        for _ in range(6):
            client = sitting.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", int(service.url.rsplit(":", 1)[1])))
            client.sendall(ask * (16 * MIB // size))
            clients.append(client)
        time.sleep(1)
        assert httpx.get(service.url + "/api/v1/me", timeout=60).status_code == 200
        time.sleep(6)
        for client in clients:
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(65536):
                    received += len(part)
            assert received < 16 * MIB, "what they did not ask to read in time is not sent"


def test_requests_beyond_what_is_handled_are_told_so(built_gallery: Path, tmp_path: Path) -> None:
    site = copy_site(built_gallery, tmp_path)
    with run_service(site.folder, env={"CALR_SERVICE_MAX_REQUESTS": "2"}) as service:
        dawdling = [connect(service) for _ in range(2)]
        for client in dawdling:
            client.sendall(
                f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
                + HEAD
            )
        give_up = time.monotonic() + 60
        while (answer := httpx.get(service.url + "/api/v1/me")).status_code == 200 and time.monotonic() < give_up:
            time.sleep(0.05)  # until both have begun
        assert answer.status_code == 503 and "busy" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) > 0
        assert httpx.get(service.url + "/healthz").status_code == 200, "it is busy, not dead"
        for client in dawdling:
            client.close()
        for _ in range(1000):  # until both are gone
            answer = httpx.get(service.url + "/api/v1/me")
            if answer.status_code != 503:
                break
        assert answer.status_code == 200
