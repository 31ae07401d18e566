"""The bytes an agent signs to prove, freshly, that it holds its private key.

A CSR proves nothing fresh: an existing agent's is byte-identical on every Register, so whoever saw
one can replay it. The signed text therefore binds a single-use nonce, the server it is meant for
and the CSR it comes with. The server is named by its own certificate, as the agent has verified it under
its roots and for the name it dialled: an authority may have signed other servers too (docs/adr/0006).
"""

import hashlib

_REGISTER = b"ct-ops-register-1"
_ROTATE = b"ct-ops-rotate-key-1"
_DEREGISTER = b"ct-ops-deregister-1"


def signed_text(*, nonce: bytes, server_certificate_der: bytes, csr_der: bytes) -> bytes:
    """Return what ``KeyProof.signature`` of a Register is made over."""
    return (
        _REGISTER + nonce + hashlib.sha256(server_certificate_der).digest() + hashlib.sha256(csr_der).digest()
    )


def rotation_text(*, leaf_der: bytes, csr_der: bytes) -> bytes:
    """Return what the *new* key signs when it is to follow the key of ``leaf_der``.

    The old key proves itself by the connection. The new one proves here that its holder wants to be
    the successor of this very leaf, so that nobody can name somebody else's key as his next.
    """
    return rotation_text_for(leaf_sha256=hashlib.sha256(leaf_der).digest(), csr_der=csr_der)


def rotation_text_for(*, leaf_sha256: bytes, csr_der: bytes) -> bytes:
    """Return `rotation_text` for a leaf of which only the digest is at hand."""
    return _ROTATE + leaf_sha256 + hashlib.sha256(csr_der).digest()


def deregistration_text(*, nonce: bytes, server_certificate_der: bytes, agent_id: str) -> bytes:
    """Return what ``KeyProof.signature`` of a Deregister is made over."""
    server, agent = hashlib.sha256(server_certificate_der), hashlib.sha256(agent_id.encode())
    return _DEREGISTER + nonce + server.digest() + agent.digest()
