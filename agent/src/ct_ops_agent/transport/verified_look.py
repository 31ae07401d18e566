"""A look at the server's certificate on a connection of its own, verified as gRPC verifies its own.

gRPC does not show the certificate that it has verified, and a key proof has to name it. So this shakes
hands once more, with the same roots and for the same name, and hangs up. Nothing is sent.

What it returns may be another server's than the one gRPC talks to, when several share the name; both are
then the server that this agent was told to trust, and whoever is not cannot get here at all.
"""

import asyncio
import ssl

from ct_ops_agent.control_plane import Route
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.keystore import parse_pem

_DEADLINE_S = 10.0


async def look_at_server(route: Route, address: str) -> bytes:
    """Return the certificate (DER) that the server at an address of this route shows.

    Raises:
        UnreachableError: no answer, or a certificate that this route does not believe.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        async with asyncio.timeout(_DEADLINE_S):
            _, writer = await asyncio.open_connection(
                host, int(port), ssl=believing(route), server_hostname=route.server_name or host
            )
    except OSError as error:  # also TimeoutError, and every ssl.SSLError
        said = str(error) or "it does not answer"
        raise UnreachableError(f"cannot look at the certificate of {address}: {said}") from error
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return bytes(shown)


def believing(route: Route) -> ssl.SSLContext:
    """Return a context that believes what gRPC believes on this route."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # As gRPC has it: a believed certificate ends a chain whoever signed it, and one without alternative
    # names goes by its common name. What is stricter here would keep an honest agent out.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = True
    context.set_alpn_protocols(["h2"])
    if roots := [der for label, der in parse_pem(route.roots_pem) if label == "CERTIFICATE"]:
        context.load_verify_locations(cadata=b"".join(roots))
    else:
        context.load_default_certs()
    return context
