"""Which server CAs vouch for the one that signs: cross-certificates, and the chain that is made of them. Pure.

The chain above the server's certificate is one line: the key of the one that signs, vouched for by another; that one's
key, vouched for by a third; and so on. Clients such as OpenSSL's take the first certificate with the right name and
never try a second one, so two for the same key would leave out who believes the other's issuer.

A CA says how many may stand between it and a certificate (its path length). Where the line is longer than a CA allows,
whoever believes only that one is *not led* to the server's certificate, and is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ct_ops_server.authority.root import Root
from ct_ops_server.authority.server_ca_lineage import MOST_ANCHORS, Lineage, Member

PATH_LENGTH = MOST_ANCHORS - 1
"""Of server CAs that are made now: with all that may be announced in one line, the first still leads to the last."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What is presented above the server's certificate."""

    crosses: tuple[x509.Certificate, ...]
    led: tuple[Member, ...]
    """Whoever believes one of these believes the server: the one that signs first."""


def may_vouch(root: x509.Certificate, *, below: int = 1) -> bool:
    """Return whether so many CAs may stand below this one. Those made before rotations existed allow none."""
    length = _path_length(root)
    return length is None or length >= below


def chain_of(lineage: Lineage, signer: Member, now: datetime) -> Chain:
    """Return what leads to a certificate that ``signer`` signs, as seen at a moment."""
    crosses, led = list[x509.Certificate](), [signer]
    while (cross := led[-1].cross) is not None and _is_valid(cross, now):
        below = len(crosses) + 1
        issuer = next((each for each in lineage.live if each.certificate.subject == cross.issuer), None)
        if issuer is None or issuer in led or not issuer.is_valid(now):
            break
        if not (may_vouch(cross, below=below - 1) and may_vouch(issuer.certificate, below=below)):
            break
        crosses.append(cross)
        led.append(issuer)
    return Chain(tuple(crosses), tuple(led))


def left_out(lineage: Lineage, chain: Chain, now: datetime) -> tuple[Member, ...]:
    """Return those that signed once, have not ended, and do not lead to the server's certificate."""
    return tuple(each for each in lineage.before if each.is_valid(now) and each not in chain.led)


def make_cross_certificate(signer: Root, root: Root) -> x509.Certificate:
    """Return a certificate by ``signer`` for another root's name and key, while both are valid.

    It begins when they do, not now: a clock that is wrong today must not make a chain that begins in years.
    """
    certificate = root.certificate
    signer_key = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    ski = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    begins = max(signer.certificate.not_valid_before_utc, certificate.not_valid_before_utc)
    ends = min(signer.certificate.not_valid_after_utc, certificate.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(signer.certificate.subject)
        .public_key(root.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(max(ends, begins + timedelta(seconds=1)))
        .add_extension(
            x509.BasicConstraints(ca=True, path_length=_length_below(signer.certificate, certificate)),
            critical=True,
        )
        .add_extension(usage, critical=True)
        .add_extension(ski, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer_key), critical=False
        )
        .sign(signer.key, hashes.SHA256())
    )


def _length_below(signer: x509.Certificate, root: x509.Certificate) -> int:
    lengths = [_path_length(signer), _path_length(root)]
    above, own = (PATH_LENGTH if each is None else each for each in lengths)
    return max(0, min(above - 1, own))


def _path_length(root: x509.Certificate) -> int | None:
    return root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
