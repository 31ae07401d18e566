"""First contact: connections that believe nothing and send nothing, to fetch a certificate.

Both functions run before there is anything to believe. What they return is *unverified*; the caller
compares a digest with a pin, or has been told to believe what it sees. Certificates are the only
thing fetched, a request carries no secret, and answers are bounded in size and time.

Imported late: httpx and cryptography have no place in an enrolled daemon.
"""

import asyncio
import ssl

import httpx

from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.certificates import names_of
from ct_ops_agent.route import PresentedCertificate

_CA_PATH = "/.well-known/ct-ops/ca.pem"
_LARGEST_ANSWER_BYTES = 64 * 1024
_DEADLINE_S = 10.0


class UnverifiedFirstContact:
    """Fetches certificates from servers that nobody has vouched for yet."""

    async def fetch_unverified_ca(self, address: str) -> str:
        """Fetch the PEM text that the server publishes.

        Raises:
            UnreachableError: no answer, not a 200, or more than 64 KiB.
        """
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await _get_bounded(f"https://{address}{_CA_PATH}")
        except (httpx.HTTPError, OSError) as error:
            said = str(error) or "it does not answer"
            raise UnreachableError(f"cannot fetch the authority of {address}: {said}") from error

    async def fetch_presented_certificate(self, address: str) -> PresentedCertificate:
        """Shake hands and look at the certificate the server shows.

        Raises:
            UnreachableError: no TLS server there, or its certificate is malformed.
        """
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_DEADLINE_S):
                pem = await _shake_hands(host.strip("[]"), int(port))
            return PresentedCertificate(pem, names_of(pem))
        except OSError as error:
            said = error.strerror or "it does not answer"
            raise UnreachableError(f"cannot look at the certificate of {address}: {said}") from error
        except ValueError as error:
            raise UnreachableError(f"the certificate of {address} cannot be read: {error}") from error


async def _get_bounded(url: str) -> str:
    async with (
        httpx.AsyncClient(verify=_believing_nothing(), http2=False, timeout=_DEADLINE_S) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _LARGEST_ANSWER_BYTES:
                raise httpx.DecodingError("the answer is too large for a certificate")
    return body.decode(errors="replace")


async def _shake_hands(host: str, port: int) -> str:
    context = _believing_nothing()
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return ssl.DER_cert_to_PEM_cert(der)


def _believing_nothing() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
