"""A certificate signing request: which key asks, and that its holder signed this very request.

Only the key is taken from it. Names and extensions in a CSR are claims of whoever made it; the
leaf's name comes from the server (existing agents all ask for ``CN=ct-ops-agent``).

The signature says that the holder of the key once made this request. It proves nothing *fresh*: an
existing agent's CSR is byte-identical on every Register, so whoever saw one can replay it (rule 12).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from ct_ops_server.authority.public_key import KeyRefusal, KeyRefusedError, PublicKey, canonical_public_key

MAX_DER_BYTES = 4 * 1024
MAX_DER_TEXT = "4 KiB"


@dataclass(frozen=True, slots=True)
class Csr:
    """A request whose signature is that of the key in it."""

    public_key: PublicKey


def parse_csr(der: bytes, *, expected: PublicKey | None = None) -> Csr:
    """Return the request in ``der`` after checking its signature.

    Args:
        der: a PKCS#10 request.
        expected: the key that the request must be for (the one beside it, or the one in the leaf).

    Raises:
        KeyRefusedError: too_large, csr_malformed, key_malformed, key_kind, csr_signature or key_mismatch.
    """
    if len(der) > MAX_DER_BYTES:
        raise KeyRefusedError(KeyRefusal.TOO_LARGE, f"The CSR is longer than {MAX_DER_TEXT}.")
    try:
        request = x509.load_der_x509_csr(der)
        public_key = canonical_public_key(request.public_key())
        signature_is_valid = request.is_signature_valid
    except KeyRefusedError:
        raise
    except UnsupportedAlgorithm as error:
        raise KeyRefusedError(KeyRefusal.KEY_KIND, "The CSR is for a key that is not accepted.") from error
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise KeyRefusedError(KeyRefusal.CSR_MALFORMED, "The CSR cannot be read: it is damaged.") from error
    if not signature_is_valid:
        raise KeyRefusedError(
            KeyRefusal.CSR_SIGNATURE,
            "The CSR is not signed by the key in it: whoever sent it does not hold that key.",
        )
    if expected is not None and public_key != expected:
        raise KeyRefusedError(
            KeyRefusal.KEY_MISMATCH, "The CSR is for another key than the public key beside it."
        )
    return Csr(public_key)
