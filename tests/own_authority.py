"""Agent CAs as an operator's own PKI makes them, good ones and bad ones."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class OwnCa:
    """A CA, and those above it."""

    certificate: x509.Certificate
    key: Key
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        """Itself and its chain."""
        chain = (self.certificate, *self.above)
        return "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)

    @property
    def key_pem(self) -> str:
        """Its private key, unsealed."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def write(self, folder: Path) -> dict[str, str]:
        """Write both into files; return the settings that name them."""
        folder.mkdir(exist_ok=True)
        (folder / "ca.pem").write_text(self.pem)
        (folder / "ca.key").write_text(self.key_pem)
        return {
            "INGEST_AGENT_CA_CERT": str(folder / "ca.pem"),
            "INGEST_AGENT_CA_KEY": str(folder / "ca.key"),
        }


def make_ca(
    name: str,
    *,
    above: OwnCa | None = None,
    key: Key | None = None,
    is_ca: bool | None = True,
    path_length: int | None = None,
    uses: tuple[x509.ObjectIdentifier, ...] = (),
    signs_certificates: bool = True,
    digest: hashes.SHA224 | hashes.SHA256 | None = None,
    days: tuple[int, int] = (-1, 3650),
    now: datetime | None = None,
    constraints_on_names: x509.NameConstraints | None = None,
) -> OwnCa:
    """Return a CA that is signed by ``above``, or by itself; ``is_ca`` None leaves the constraints out."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    moment = now or datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = key if above is None else above.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if above is None else above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment + timedelta(days=days[0]))
        .not_valid_after(moment + timedelta(days=days[1]))
        .add_extension(_usage(signs_certificates=signs_certificates), critical=True)
    )
    if is_ca is not None:
        constraints = x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca else None)
        builder = builder.add_extension(constraints, critical=True)
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if constraints_on_names is not None:
        builder = builder.add_extension(constraints_on_names, critical=True)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256()
    certificate = builder.sign(signer, algorithm)
    return OwnCa(certificate, key, () if above is None else (above.certificate, *above.above))


def with_unreadable_name(ca: OwnCa) -> str:
    """Return the PEM of a CA, whose name holds bytes that are no UTF-8."""
    name = ca.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(name, str)
    der = ca.certificate.public_bytes(Encoding.DER).replace(name.encode(), b"\xff" * len(name))
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def with_negative_serial(ca: OwnCa) -> str:
    """Return the PEM of a CA, whose serial number is negative."""
    number = ca.certificate.serial_number
    written = number.to_bytes((number.bit_length() + 8) // 8)
    negative = bytes((written[0] | 0x80, *written[1:]))
    text = base64.encodebytes(ca.certificate.public_bytes(Encoding.DER).replace(written, negative)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


SERVERS_ONLY = (ExtendedKeyUsageOID.SERVER_AUTH,)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
