"""The server CAs as files of a data directory: what this node starts with, and acts by.

``server-ca.json`` says which is which and is replaced as a whole; without it there is the first one only. The files of
the n-th are ``server-ca-N.crt``, ``.key`` (sealed) and ``-cross.crt``; the first one's have no number. They are written
before the state names them, and the keys of retired ones are erased after it does, so a crash in between leaves the
server CAs of before or those of after.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.root import Root, elliptic
from ct_ops_server.authority.sealing import SealingSecret, parse_key, seal
from ct_ops_server.authority.server_ca_lineage import Lineage, Member, Role

STATE_FILE = "server-ca.json"
_SEALED_MARK = b"ENCRYPTED"
_UNVERSIONED = 1
"""A state file of before there were versions: some step was taken."""


@dataclass(frozen=True, slots=True)
class Vault:
    """Opens sealed keys of server CAs, and says where they belong."""

    data_dir: Path
    secret: SealingSecret

    def root_of(self, member: Member) -> Root:
        """Return a server CA as something that signs.

        Raises:
            WrongSecretError: its key is sealed with another secret.
            AuthorityError: its key is missing, or another's.
        """
        key = self._key_of(member)
        file = self.data_dir / f"{stem(member.number)}.crt"
        if key.public_key() != member.certificate.public_key():
            raise AuthorityError(
                file, "does not belong to the key beside it. Restore both from the same backup."
            )
        return Root(file, member.certificate, key)

    def sealed(self, member: Member) -> bytes | None:
        """Return its key as it may lie in a database: sealed, also when somebody put an open one into the file.

        Raises:
            WrongSecretError: it is sealed with another secret: nobody else could open it.
        """
        if member.sealed_key is None:
            return None
        key = self._key_of(member)
        return member.sealed_key if _SEALED_MARK in member.sealed_key else seal(key, self.secret)

    def _key_of(self, member: Member) -> ec.EllipticCurvePrivateKey:
        file, pem = self.data_dir / f"{stem(member.number)}.key", member.sealed_key
        return elliptic(file, None if pem is None else parse_key(file, pem, self.secret))


def read_lineage(data_dir: Path) -> Lineage | None:
    """Return what the files say; None: there is no server CA here yet.

    Raises:
        AuthorityError: a file is missing, damaged or unreadable.
    """
    content = files.load_private(data_dir / STATE_FILE)
    if content is None:
        first = _member(data_dir, 1, Role.SIGNS, by_time=False)
        return None if first is None else Lineage(0, (first,))
    try:
        version, roles, by_time = _parse(json.loads(content))
    except (ValueError, KeyError, TypeError) as error:
        raise AuthorityError(data_dir / STATE_FILE, "is damaged. Restore it from a backup.") from error
    return Lineage(version, tuple(_members(data_dir, roles, by_time=by_time)))


def write_lineage(data_dir: Path, lineage: Lineage) -> None:
    """Make the files say this.

    Raises:
        AuthorityError: one cannot be written or removed.
    """
    for member in lineage.members:
        base = data_dir / stem(member.number)
        if member.sealed_key is not None:
            _keep(base.with_suffix(".key"), member.sealed_key)
        _keep(base.with_suffix(".crt"), _pem(member.certificate))
        if member.cross is not None:
            _keep(data_dir / _cross_file(member.number), _pem(member.cross))
    _keep(data_dir / STATE_FILE, _document(lineage))
    erase_retired(data_dir, lineage)


def erase_retired(data_dir: Path, lineage: Lineage) -> None:
    """Erase the keys of retired ones; they may be gone already. Raises ``AuthorityError``."""
    for member in lineage.members:
        key_file = data_dir / f"{stem(member.number)}.key"
        if member.role is Role.RETIRED and key_file.exists():
            files.erase(key_file)


def stem(number: int) -> str:
    """Return what the files of the n-th are called."""
    return "server-ca" if number == 1 else f"server-ca-{number}"


def _cross_file(number: int) -> str:
    return f"{stem(number)}-cross.crt"


def _members(data_dir: Path, roles: Mapping[int, Role], *, by_time: bool) -> Iterator[Member]:
    for number in range(1, max(roles) + 1):
        role = roles.get(number, Role.RETIRED)
        member = _member(data_dir, number, role, by_time=by_time and role is Role.SIGNS)
        if member is not None:
            yield member
        elif role is not Role.RETIRED:
            raise AuthorityError(
                data_dir / f"{stem(number)}.crt",
                f"is missing, and {STATE_FILE} names it. Restore the whole directory from a backup.",
            )


def _member(data_dir: Path, number: int, role: Role, *, by_time: bool) -> Member | None:
    certificate = _load_certificate(data_dir / f"{stem(number)}.crt")
    if certificate is None:
        return None
    key = None if role is Role.RETIRED else files.load_private(data_dir / f"{stem(number)}.key")
    return Member(
        number, role, certificate, _load_certificate(data_dir / _cross_file(number)), key, by_time=by_time
    )


def _load_certificate(path: Path) -> x509.Certificate | None:
    pem = files.load_private(path)
    if pem is None:
        return None
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise AuthorityError(path, "holds no certificate in PEM form. Restore it from a backup.") from error


def _keep(path: Path, content: bytes) -> None:
    """Write only what is new: other processes look at when a file changed."""
    if files.load_private(path) != content:
        files.replace_private(path, content)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _parse(document: Mapping[str, Any]) -> tuple[int, Mapping[int, Role], bool]:
    following = document["next"]
    roles = dict.fromkeys(map(int, document["before"]), Role.BEFORE)
    roles |= {} if following is None else {int(following): Role.NEXT}
    roles[int(document["signs"])] = Role.SIGNS
    return int(document.get("version", _UNVERSIONED)), roles, bool(document.get("by_time", False))


def _document(lineage: Lineage) -> bytes:
    following = lineage.following
    document = {
        "version": lineage.version,
        "signs": lineage.signs.number,
        "next": None if following is None else following.number,
        "before": [each.number for each in lineage.before],
        "by_time": lineage.signs.by_time,
    }
    return (json.dumps(document) + "\n").encode()
