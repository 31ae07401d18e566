"""The server CAs of this installation: which one signs, which one comes next, which ones were before.

Agents believe a server CA, so it cannot simply be replaced. A new one goes through three steps:

* **prepare**: it is made, and announced to agents beside the old one; nothing is signed by it yet;
* **activate**: it signs the server's certificate. The *cross-certificate*, its key signed by the old CA, goes into
  the TLS chain: who believes only the old one can go on until that one's own end, also existing agents;
* **retire**: the old one is announced no more, so agents forget it. That happens by itself at its end.

What time does by itself: the next one is prepared 400 days before the end, and activated 90 days before it when a
cross-certificate keeps everybody, else on the last three days, when nobody has anything to lose.

``server-ca.json`` says which is which and is replaced as a whole; without it there is the first one only. The
files of the n-th are ``server-ca-N.crt`` and ``.key``; the first one's have no number. They are made before the
state names them, so a crash in between leaves a file that the next try finds and uses.

Left to others: whether enough of the fleet can follow (``fleet.following``), and who asks for a step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.root import BACKDATED, Root, RootName, load_or_create_root
from ct_ops_server.authority.sealing import SealingSecret

STATE_FILE = "server-ca.json"
PREPARE_BELOW = timedelta(days=400)
ACTIVATE_BELOW = timedelta(days=90)
ACTIVATE_ALONE_BELOW = timedelta(days=3)


class StepError(Exception):
    """This step does not follow now. ``str()`` says what does."""


@dataclass(frozen=True, slots=True)
class _State:
    """Which numbers are which."""

    signs: int = 1
    following: int | None = None
    before: tuple[int, ...] = ()
    """Newest first; those that are still announced."""


@dataclass(frozen=True, slots=True)
class ServerCas:
    """Those that matter now."""

    signs: Root
    following: Root | None = None
    before: tuple[x509.Certificate, ...] = ()
    """Newest first; those that have not ended."""
    crosses: tuple[x509.Certificate, ...] = ()
    """The key that signs, vouched for by the one before: the chain above the server's certificate."""
    made: tuple[str, ...] = ()
    steps: tuple[tuple[str, bytes], ...] = ()
    """What time did just now: ``prepare`` or ``activate``, and the certificate (DER) that it was done to."""
    state: _State = field(default=_State(), repr=False)

    @property
    def announced(self) -> tuple[x509.Certificate, ...]:
        """What agents shall believe, the one that signs first."""
        coming = () if self.following is None else (self.following.certificate,)
        return (self.signs.certificate, *coming, *self.before)

    def look_again_at(self) -> datetime:
        """Return when time next changes something here."""
        end = self.signs.certificate.not_valid_after_utc
        ends = [each.not_valid_after_utc for each in (*self.before, *self.crosses)]
        if self.following is None:
            return min([end - PREPARE_BELOW, *ends])
        return min([activated_at(self.signs.certificate), *ends])


def open_server_cas(data_dir: Path, secret: SealingSecret, *, now: datetime) -> ServerCas:
    """Return the server CAs, making the first one, and doing what is due by the dates.

    Raises:
        WrongSecretError: a key is sealed with another secret.
        AuthorityError: a file is damaged or unreadable, or the one that signs is not valid now.
    """
    found = _read(data_dir, secret, now)
    end, made = found.signs.certificate.not_valid_after_utc, found.made
    steps = list[tuple[str, bytes]]()
    # After its end nothing is prepared any more: rather the clock is wrong, and agents would be lost for it.
    if found.following is None and timedelta(0) < end - now < PREPARE_BELOW:
        found = prepare(data_dir, secret, now=now)
        made = (*made, *found.made)
        steps += [] if found.following is None else [("prepare", found.following.der)]
    if found.following is not None and now >= activated_at(found.signs.certificate):
        found = activate(data_dir, secret, now=now)
        made = (*made, f"{found.signs.file}: it signs the server's certificate from now on.")
        steps.append(("activate", found.signs.der))
    found.signs.check_dates(now)
    return replace(found, made=made, steps=tuple(steps))


def activated_at(signs: x509.Certificate) -> datetime:
    """Return when the next one signs without being asked to."""
    return signs.not_valid_after_utc - (ACTIVATE_BELOW if may_vouch(signs) else ACTIVATE_ALONE_BELOW)


def may_vouch(root: x509.Certificate) -> bool:
    """Return whether this root may have another CA below it. Those that were made before rotations existed may not."""
    length = root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return length is None or length > 0


def prepare(data_dir: Path, secret: SealingSecret, *, now: datetime) -> ServerCas:
    """Make the next one.

    Raises:
        StepError: there is one already.
        AuthorityError: a file is damaged or cannot be written.
    """
    found = _read(data_dir, secret, now)
    if found.following is not None:
        raise StepError("the next server CA is prepared already; what follows is to activate it")
    state = found.state
    number = max((state.signs, *state.before)) + 1
    following = load_or_create_root(data_dir, _name(number), secret, now=now)
    if may_vouch(found.signs.certificate) and now < found.signs.certificate.not_valid_after_utc:
        _keep_cross(data_dir, number, found.signs, following, now)
    _write(data_dir, replace(state, following=number))
    return replace(_read(data_dir, secret, now), made=following.made)


def activate(data_dir: Path, secret: SealingSecret, *, now: datetime) -> ServerCas:
    """Let the next one sign.

    Raises:
        StepError: none is prepared.
        AuthorityError: a file is damaged or cannot be written.
    """
    state = _read(data_dir, secret, now).state
    if state.following is None:
        raise StepError("no next server CA is prepared; what follows is to prepare one")
    _write(data_dir, _State(state.following, None, (state.signs, *state.before)))
    return _read(data_dir, secret, now)


def retire(data_dir: Path, secret: SealingSecret, *, now: datetime) -> ServerCas:
    """Have agents forget those that were before, and erase their private keys.

    Raises:
        StepError: none is left.
        AuthorityError: a file is damaged or cannot be written.
    """
    found = _read(data_dir, secret, now)
    if not found.state.before:
        raise StepError("there is no earlier server CA that agents still believe")
    _write(data_dir, replace(found.state, before=()))
    for number in found.state.before:
        (data_dir / f"{_stem(number)}.key").unlink(missing_ok=True)
    return _read(data_dir, secret, now)


def _read(data_dir: Path, secret: SealingSecret, now: datetime) -> ServerCas:
    state = _load_state(data_dir / STATE_FILE)
    signs = load_or_create_root(data_dir, _name(state.signs), secret, now=now)
    following = (
        None
        if state.following is None
        else load_or_create_root(data_dir, _name(state.following), secret, now=now)
    )
    before = [_certificate(data_dir / f"{_stem(number)}.crt") for number in state.before]
    cross = _load_certificate(data_dir / _cross_file(state.signs)) if state.before else None
    crosses = [] if cross is None else [cross]
    return ServerCas(
        signs=signs,
        following=following,
        before=tuple(each for each in before if now < each.not_valid_after_utc),
        crosses=tuple(each for each in crosses if now < each.not_valid_after_utc),
        made=signs.made,
        state=state,
    )


def _keep_cross(data_dir: Path, number: int, signer: Root, following: Root, now: datetime) -> None:
    cross = make_cross_certificate(signer, following, now=now)
    files.replace_private(data_dir / _cross_file(number), cross.public_bytes(serialization.Encoding.PEM))


def make_cross_certificate(signer: Root, root: Root, *, now: datetime) -> x509.Certificate:
    """Return a certificate by ``signer`` for the next root's name and key, as long as the signer lasts."""
    second, following = now.astimezone(UTC).replace(microsecond=0), root.certificate
    signer_key = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = following.extensions.get_extension_for_class(x509.KeyUsage).value
    ski = following.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    end = min(signer.certificate.not_valid_after_utc, following.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(following.subject)
        .issuer_name(signer.certificate.subject)
        .public_key(root.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(second - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(ski, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer_key), critical=False
        )
        .sign(signer.key, hashes.SHA256())
    )


def _name(number: int) -> RootName:
    return RootName(
        _stem(number),
        "CT-Ops Server CA",
        "a server CA, which agents pin; it is good for ten years",
        key_in_name=True,
        path_length=1,
    )


def _stem(number: int) -> str:
    return "server-ca" if number == 1 else f"server-ca-{number}"


def _cross_file(number: int) -> str:
    return f"{_stem(number)}-cross.crt"


def _certificate(path: Path) -> x509.Certificate:
    found = _load_certificate(path)
    if found is None:
        raise AuthorityError(
            path, f"is missing, and {STATE_FILE} names it. Restore the whole directory from a backup."
        )
    return found


def _load_certificate(path: Path) -> x509.Certificate | None:
    pem = files.load_private(path)
    if pem is None:
        return None
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise AuthorityError(path, "holds no certificate in PEM form. Restore it from a backup.") from error


def _load_state(path: Path) -> _State:
    content = files.load_private(path)
    if content is None:
        return _State()
    try:
        return _state_of(json.loads(content))
    except (ValueError, KeyError, TypeError) as error:
        raise AuthorityError(path, "is damaged. Restore it from a backup.") from error


def _state_of(document: Mapping[str, Any]) -> _State:
    following = document["next"]
    before: Sequence[Any] = document["before"]
    return _State(
        int(document["signs"]), None if following is None else int(following), tuple(map(int, before))
    )


def _write(data_dir: Path, state: _State) -> None:
    document = {"signs": state.signs, "next": state.following, "before": list(state.before)}
    files.replace_private(data_dir / STATE_FILE, (json.dumps(document) + "\n").encode())
