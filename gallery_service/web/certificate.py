"""The certificate that the service speaks TLS with, taken up again when it is renewed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from gallery_service.errors import GalleryError

_log = logging.getLogger("gallery_service")


class Certificate:
    """The files, in PEM format, that let the service speak TLS itself.

    Args:
        certificate: and those of its issuers.
        key: its private key.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.key = key
        self._seen = self._stamp()

    def check(self) -> None:
        """Fail before anything is served.

        Raises:
            GalleryError: one of them cannot be read, or they are no certificate and its key.
        """
        for option, path in (("--ssl-certfile", self.certificate), ("--ssl-keyfile", self.key)):
            try:
                path.read_bytes()
            except OSError as error:
                raise GalleryError(
                    f"{option} {path}: cannot be read ({error.strerror}); give a file in PEM format that may be read"
                ) from None
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self.certificate, self.key, self._refuse_password
            )
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            if "MISMATCH" in reason or reason == "NO_CERTIFICATE_ASSIGNED":  # the latter where even its kind is another
                raise GalleryError(
                    f"--ssl-keyfile {self.key}: is not the key of the certificate in {self.certificate}; give the two "
                    "that were made together"
                ) from None
            raise GalleryError(
                f"--ssl-certfile {self.certificate}, --ssl-keyfile {self.key}: one of them is not in PEM format, or "
                f"holds something else ({reason}); give a certificate and its private key"
            ) from None

    def _refuse_password(self) -> str:
        # Else OpenSSL would ask for it at the terminal, where nobody may be.
        raise GalleryError(
            f"--ssl-keyfile {self.key}: is protected by a password; give a key without one, which only the service may "
            "read"
        )

    def renew(self, context: ssl.SSLContext) -> None:
        """Use the files from the next connection on if they have changed and fit together; else go on with what there
        was. Whoever renews them writes one after the other.

        Args:
            context: of the running service.
        """
        found = self._stamp()
        if found == self._seen:
            return
        self._seen = found
        # Into a context of its own: one that has a certificate keeps it beside a new one with another kind of key.
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self.check()
            fresh.load_cert_chain(self.certificate, self.key, self._refuse_password)
        except (GalleryError, OSError) as error:
            _log.warning("keeping the certificate read before: %s", error)
            return
        # OpenSSL asks this of every connection, whether or not it names a server.
        context.sni_callback = lambda connection, _name, _context: setattr(connection, "context", fresh)

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        stamps: list[tuple[int, int, int] | None] = []
        for path in (self.certificate, self.key):
            try:
                stat = path.stat()
                stamps.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
            except OSError:
                stamps.append(None)
        return stamps
