"""In which order gRPC is given the CAs that are believed.

gRPC takes the first CA with the name that a certificate was issued by, and never a second one. An organisation that
renews its root under the same name has two of one name for years, and the first that ends, or has not begun,
would keep this agent out although the other one is good. So those that are valid now come first.

The dates are read by ``ssl``, which asyncio has loaded anyway, and not by ``cryptography``, which costs ten megabytes for
as long as the agent runs. What cannot be read, or is no CA, stays where it is: whether it is to be believed is
decided by TLS, by the same clock.
"""

import ssl
from collections.abc import Iterable
from contextlib import suppress

from ct_ops_agent.identity.keystore import parse_pem, to_pem


def in_order(roots_pem: str, now_unix: float) -> str:
    """Return a trust bundle with the certificates first that are valid at this moment."""
    ders = [der for label, der in parse_pem(roots_pem) if label == "CERTIFICATE"]
    invalid = _invalid(ders, now_unix)
    ordered = sorted(ders, key=lambda der: der in invalid)
    if ordered == ders:
        return roots_pem
    return "".join(to_pem("CERTIFICATE", der) for der in ordered)


def _invalid(ders: Iterable[bytes], now_unix: float) -> set[bytes]:
    """Return the CAs among them that have ended or not begun."""
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for der in ders:
        with suppress(ssl.SSLError, ValueError):
            store.load_verify_locations(cadata=der)
    try:
        read = list(zip(store.get_ca_certs(binary_form=True), store.get_ca_certs(), strict=True))
    except (ssl.SSLError, ValueError):
        return set()  # a name that nothing can spell
    return {
        der for der, said in read if not _is_within(str(said["notBefore"]), str(said["notAfter"]), now_unix)
    }


def _is_within(begins: str, ends: str, now_unix: float) -> bool:
    try:
        return ssl.cert_time_to_seconds(begins) <= now_unix <= ssl.cert_time_to_seconds(ends)
    except ValueError:
        return True  # a year that nothing here can count: TLS has the word
