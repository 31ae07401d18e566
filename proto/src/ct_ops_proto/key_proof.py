"""The bytes an agent signs to prove, freshly, that it holds its private key.

A CSR proves nothing fresh: an existing agent's is byte-identical on every Register, so whoever saw
one can replay it. The signed text therefore binds a single-use nonce, the server it is meant for
and the CSR it comes with.
"""

import hashlib

_CONTEXT = b"ct-ops-register-1"


def signed_text(*, nonce: bytes, server_ca_der: bytes, csr_der: bytes) -> bytes:
    """Return what ``KeyProof.signature`` is made over."""
    return _CONTEXT + nonce + hashlib.sha256(server_ca_der).digest() + hashlib.sha256(csr_der).digest()
