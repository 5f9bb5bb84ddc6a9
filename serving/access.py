"""Who may ask the server: a bearer token, TLS, certificates of clients."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.errors import ServingError

if TYPE_CHECKING:
    import grpc

_logger = logging.getLogger(__name__)
# Probes and scrapers have no token.
_FREE = ("/", "/metrics", "/v2/health/live", "/v2/health/ready")
FREE_CALLS = (
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)


@dataclass(frozen=True)
class Access:
    """Credentials that a client has to show; none by default.

    token: sent as `Authorization: Bearer TOKEN`.
    certificate, key: of this server, in PEM.
    client_ca: signs the certificates of clients.
    """

    token: str = ""
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    @classmethod
    def of(
        cls,
        token_file: Path | None,
        certificate: Path | None,
        key: Path | None,
        client_ca: Path | None,
    ) -> Access:
        """Reads the token and looks for the files.

        Raises:
            ServingError: a file is missing, or the token is empty.
        """
        if (certificate is None) != (key is None):
            raise ServingError("--tls-cert and --tls-key go together")
        if client_ca is not None and certificate is None:
            raise ServingError("--tls-client-ca needs --tls-cert")
        for option, path in (
            ("--token-file", token_file),
            ("--tls-cert", certificate),
            ("--tls-key", key),
            ("--tls-client-ca", client_ca),
        ):
            if path is not None and not path.is_file():
                raise ServingError(f"{option}: no file {path}")
        token = ""
        if token_file is not None:
            token = (token_file.read_text("utf-8").splitlines() or [""])[0]
            token = token.strip()
            if not token or not token.isascii() or not token.isprintable():
                raise ServingError(
                    f"--token-file: expected a token of ASCII characters in"
                    f" the first line of {token_file}"
                )
        return cls(token, certificate, key, client_ca)

    def allows(self, authorization: str) -> bool:
        """True if the header `Authorization` has the token."""
        expected = f"Bearer {self.token}".encode()
        return hmac.compare_digest(authorization.encode(), expected)

    def check(self, host: str) -> None:
        """Warns if everybody on the network may ask."""
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = host == "localhost"
        if not (local or self.token or self.client_ca):
            _logger.warning(
                "whoever reaches %s may ask: give --token-file, or"
                " --tls-client-ca",
                host,
            )
        if self.token and self.certificate is None and not local:
            _logger.warning(
                "the token crosses the network in plain text: give --tls-cert"
                " and --tls-key, unless a proxy does TLS"
            )

    def pair(self) -> CertificatePair | None:
        """The certificate and its key, to be followed; None without TLS."""
        if self.certificate is None or self.key is None:
            return None
        return CertificatePair(self.certificate, self.key)

    def grpc_credentials(self) -> grpc.ServerCredentials | None:
        """The same certificates for gRPC; None without TLS.

        Each handshake takes the newest pair.
        """
        import grpc

        pair = self.pair()
        if pair is None:
            return None
        ca = self.client_ca and self.client_ca.read_bytes()

        def read() -> Any:
            return grpc.ssl_server_certificate_configuration(
                [(pair.key.read_bytes(), pair.certificate.read_bytes())], ca
            )

        return grpc.dynamic_ssl_server_credentials(
            read(), lambda: read() if pair.renewed() else None, bool(ca)
        )


class CertificatePair:
    """Files of a certificate and its key, which are replaced in time."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate, self.key = certificate, key
        self._known = self._versions()

    def renewed(self) -> bool:
        """True once for each new pair of files that belong together."""
        found = self._versions()
        if found == self._known or None in found:
            return False
        self._known = found
        try:  # a context in use would keep half of a wrong pair
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.certificate, self.key
            )
        except (OSError, ValueError) as error:
            _logger.warning("the new certificate is not used: %s", error)
            return False
        _logger.info("the certificate is loaded again")
        return True

    def _versions(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_version, (self.certificate, self.key)))


def _version(path: Path) -> tuple[int, int] | None:
    """Changes with the file's content; None if it is not there."""
    with suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


OPEN = Access()


class RequireToken:
    """ASGI middleware: 401 for requests without the token."""

    def __init__(
        self, app: Any, access: Access, refused: Callable[[int], None]
    ) -> None:
        """Wraps an ASGI app; `refused` counts."""
        self._app = app
        self._access = access
        self._refused = refused

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers, or lets the app answer."""
        if scope["type"] != "http" or scope["path"] in _FREE:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"").decode("latin-1")
        if self._access.allows(given):
            await self._app(scope, receive, send)
            return
        self._refused(401)
        body = b'{"error":"expected the header Authorization: Bearer TOKEN"}'
        await send(
            {
                "type": "http.response.start",
                "status": 401,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"www-authenticate", b"Bearer"),
                    (b"connection", b"close"),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})
