"""The service speaking TLS itself, over a real socket, and what it says of files that it cannot use."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gallery_service.web.certificate import Certificate

from ..conftest import copy_site, run_service
from .conftest import PASSWORD, GuardedService
from .test_sign_in import ME, csrf, database

SIGN_IN = {"name": "investigator", "password": PASSWORD, "next": "/"}


@dataclass(frozen=True)
class Pair:
    """Files in PEM format."""

    certificate: Path
    key: Path


def make_pair(folder: Path, name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> Pair:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(pem(key))
    return pair


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"), "service")


@dataclass(frozen=True)
class Encrypted:
    url: str
    trusting: ssl.SSLContext

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@pytest.fixture(scope="module")
def encrypted(
    pair: Pair, guarded: GuardedService, built_gallery: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Encrypted]:
    """The indexed site over TLS, to users only."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("encrypted"))
    env = {"CALR_SITES": str(database(guarded).parent), "CALR_SERVICE_HEADER_TIMEOUT_S": "2"}
    options = ("--ssl-certfile", str(pair.certificate), "--ssl-keyfile", str(pair.key))
    with run_service(site.folder, env=env, options=options) as running:
        yield Encrypted(running.url, ssl.create_default_context(cafile=pair.certificate))
    assert running.process.returncode == 0


def test_a_session_over_tls_has_a_cookie_that_never_travels_in_the_open(encrypted: Encrypted) -> None:
    assert encrypted.url.startswith("https://127.0.0.1:")
    with httpx.Client(base_url=encrypted.url, verify=encrypted.trusting, timeout=120) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.post("/sign-in", data=SIGN_IN, headers={"Origin": encrypted.url})
        assert answer.status_code == 303, answer.text
        cookie, *attributes = answer.headers["Set-Cookie"].lower().split("; ")
        assert cookie.startswith("calr_session=")
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= set(attributes)
        assert client.get(ME).json()["name"] == "investigator"
        token = csrf(client)
        # http is another origin, also of the same host and port.
        other = {"X-CSRF-Token": token, "Origin": encrypted.url.replace("https", "http")}
        assert client.post("/sign-out", headers=other).status_code == 403
        own = {"X-CSRF-Token": token, "Origin": encrypted.url}
        assert client.post("/sign-out", headers=own).status_code == 303


def test_a_proxy_with_tls_on_this_machine_is_believed(guarded: GuardedService) -> None:
    for proto, secure in (("https", True), ("http", False)):
        answer = httpx.post(guarded.url + "/sign-in", data=SIGN_IN, headers={"X-Forwarded-Proto": proto})
        assert answer.status_code == 303
        assert ("secure" in answer.headers["Set-Cookie"].lower().split("; ")) is secure


def test_who_does_not_know_the_certificate_stays_away(encrypted: Encrypted, tmp_path: Path) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{encrypted.url}/healthz")
    another = make_pair(tmp_path, "another")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{encrypted.url}/healthz", verify=ssl.create_default_context(cafile=another.certificate))


def test_plain_http_gets_no_answer_and_silence_is_not_borne_with(encrypted: Encrypted) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(encrypted.url.replace("https", "http") + "/healthz")
    with socket.create_connection(("127.0.0.1", encrypted.port), timeout=30) as plain:
        plain.sendall(b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", encrypted.port), timeout=30) as silent:
        assert silent.recv(1) == b""
    assert time.monotonic() - began < 20
    assert httpx.get(f"{encrypted.url}/healthz", verify=encrypted.trusting).status_code == 200


def shown(context: ssl.SSLContext) -> bytes:
    """The certificate that a server with this context shows, DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert(binary_form=True) or b""


KEYS = {"rsa": lambda: rsa.generate_private_key(65537, 2048), "ec": lambda: ec.generate_private_key(ec.SECP256R1())}


@pytest.mark.parametrize("kind_before", KEYS)
@pytest.mark.parametrize("kind", KEYS)
def test_a_renewed_certificate_is_taken_up_once_it_fits_its_key(
    kind_before: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair, new = make_pair(tmp_path, "old", KEYS[kind_before]()), make_pair(tmp_path, "new", KEYS[kind]())
    live = Pair(tmp_path / "live.pem", tmp_path / "live.key")
    live.certificate.write_bytes(pair.certificate.read_bytes())
    live.key.write_bytes(pair.key.read_bytes())
    certificate, context = Certificate(live.certificate, live.key), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(live.certificate, live.key)
    before = shown(context)
    certificate.renew(context)
    assert shown(context) == before
    for half in (new.certificate.read_bytes(), b"", b"no PEM"):
        live.certificate.write_bytes(half)
        for _ in range(2):
            certificate.renew(context)
        assert shown(context) == before
    live.certificate.unlink()
    certificate.renew(context)
    assert shown(context) == before
    assert len(caplog.records) == 4, "each state is complained about once"
    live.certificate.write_bytes(new.certificate.read_bytes())
    live.key.write_bytes(new.key.read_bytes())
    certificate.renew(context)
    assert shown(context) == ssl.PEM_cert_to_DER_cert(new.certificate.read_text())


def test_a_running_service_takes_it_up(guarded: GuardedService, built_gallery: Path, tmp_path: Path) -> None:
    live, new = make_pair(tmp_path, "live"), make_pair(tmp_path, "new")
    env = {"CALR_SITES": str(database(guarded).parent)}
    options = ("--ssl-certfile", str(live.certificate), "--ssl-keyfile", str(live.key))
    old, trusting = (ssl.create_default_context(cafile=one.certificate) for one in (live, new))
    with run_service(copy_site(built_gallery, tmp_path / "site").folder, env=env, options=options) as running:
        assert httpx.get(f"{running.url}/healthz", verify=old).status_code == 200
        for one, other in ((live.certificate, new.certificate), (live.key, new.key)):
            one.write_bytes(other.read_bytes())
        give_up = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{running.url}/healthz", verify=trusting).status_code == 200
                break
            except httpx.TransportError:  # not trusted yet, or too slow
                assert time.monotonic() < give_up
                time.sleep(0.5)


def refused(site: Path, *options: object) -> str:
    """What a service says that does not start: one line, and status 1."""
    command = [sys.executable, "-m", "gallery_service", "serve", str(site), "--port", "0", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith("error: --ssl-")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_files_that_cannot_be_used_are_named(built_site: Path, pair: Pair, tmp_path: Path) -> None:
    another = make_pair(tmp_path, "another")
    of_another_kind = make_pair(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"\x00\xffno PEM")
    closed = tmp_path / "closed.key"
    closed.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))

    def said(certificate: Path, key: Path) -> str:
        return refused(built_site, "--ssl-certfile", certificate, "--ssl-keyfile", key)

    for key in (another.key, of_another_kind.key):
        assert f"--ssl-keyfile {key}: is not the key of the certificate in {pair.certificate}" in said(
            pair.certificate, key
        )
    for certificate, key in ((garbage, pair.key), (pair.certificate, garbage), (pair.key, pair.certificate)):
        assert "not in PEM format, or holds something else" in said(certificate, key)
    missing = tmp_path / "missing.pem"
    assert f"--ssl-certfile {missing}: cannot be read (No such file" in said(missing, pair.key)
    assert f"--ssl-keyfile {tmp_path}: cannot be read (Is a directory" in said(pair.certificate, tmp_path)
    assert f"--ssl-keyfile {closed}: is protected by a password" in said(pair.certificate, closed)
    if os.geteuid() != 0:
        garbage.chmod(0)
        assert "cannot be read (Permission denied)" in said(pair.certificate, garbage)
    for option in ("--ssl-certfile", "--ssl-keyfile"):
        assert "give both or neither" in refused(built_site, option, pair.certificate)
