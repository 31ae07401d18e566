"""How this server is reached and known from outside.

Tokens carry its addresses: ``INGEST_PUBLIC_ADDRESS``, or the best guess there is. Hosts download from the first of
them and know the server by its public key, which our own renewals keep; or from ``INGEST_AGENT_DOWNLOAD_BASE_URL``,
a proxy's, and know that by the key in ``WEB_TLS_CERT``, else in ``INGEST_WEB_SERVER_CERT``, else by their own roots.
"""

from __future__ import annotations

import socket

from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.web_certificate import WebCertificate, WebCertificateFile, load_web_certificate
from ct_ops_server.config.schema import Settings
from ct_ops_server.releases.install_script import InstallSource, public_key_pin


def advertised_addresses(settings: Settings, *, grpc_port: int) -> tuple[str, ...]:
    """Return where agents reach this server, most preferred first.

    Args:
        settings: an address that is configured wins.
        grpc_port: the port that is listened on; 0 when no server runs and none is configured.
    """
    if settings.public_addresses:
        return settings.public_addresses
    if grpc_port == 0:
        return ()
    return (with_port(settings.grpc_host or socket.getfqdn(), grpc_port),)


def with_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(address: str) -> str:
    """Return the host of ``host:port``, without brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


class Whereabouts:
    """Where one server is, at this moment: its port may be chosen late, its certificate may change."""

    def __init__(
        self, settings: Settings, tls: ServedTls, web_certificate: WebCertificateFile, *, grpc_port: int
    ) -> None:
        """Prepare; a ``grpc_port`` of 0 is not known yet, see ``listening_on``."""
        self._settings = settings
        self._tls = tls
        self._told = web_certificate
        self._grpc_port = grpc_port

    def listening_on(self, grpc_port: int) -> None:
        """Note the port that the system chose."""
        self._grpc_port = grpc_port

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where agents reach this server, most preferred first; empty when nobody knows."""
        return advertised_addresses(self._settings, grpc_port=self._grpc_port)

    def proxy_certificate(self) -> WebCertificate | None:
        """Return the certificate of the HTTPS server before this one, None when there is none.

        Raises:
            AuthorityError: it was named and cannot be used.
        """
        path = self._settings.web_tls_cert
        return self._told.current if path is None else load_web_certificate(path)

    def install_source(self) -> InstallSource | None:
        """Return where hosts download from; None when no address is known.

        Raises:
            AuthorityError: the proxy's certificate was named and cannot be used.
        """
        if not self.addresses:
            return None
        base_url = self._settings.download_base_url
        if base_url is None:
            pin = public_key_pin(self._tls.current.public_key_der)
            return InstallSource(f"https://{self.addresses[0]}", pin, self.addresses)
        proxy = self.proxy_certificate()
        return InstallSource(base_url, public_key_pin(proxy.public_key_der) if proxy else "", self.addresses)
