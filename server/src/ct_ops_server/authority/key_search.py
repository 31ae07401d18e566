"""Looks for private keys on this host, and says how what it finds stands to what the database says.

Files that are not needed are not opened: one of a retired agent CA may be half erased, one that nobody knows may be
sealed with another secret. A file that cannot be used is an error only when the start needs it (``defect``).

Out of scope: what follows from it (``starting``), and making anything (``keyring``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ct_ops_server.authority.brought import Brought
from ct_ops_server.authority.ca import key_on_disk, load_authority, name_on_disk
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.issuer import CaKey, Issuer, dates_of, parse_chain, sha256_of, signs_as
from ct_ops_server.authority.jwks import SigningKey, kept_key_files, key_name
from ct_ops_server.authority.life_cycle import Kind, TrustState, moving_of
from ct_ops_server.authority.ports import StoredKey, StoredTrust
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.starting import Kept, Named, Situation

Key = Issuer | SigningKey
_IN_PLACE = {TrustState.ACTIVE: Named.ACTIVE, TrustState.PREPARED: Named.PREPARED}


@dataclass(frozen=True, slots=True)
class Looked:
    """What is here of one kind."""

    situation: Situation
    named: Key | None = None
    stored: StoredKey | None = None
    """What the database knows of the named one, or of the one that it is the renewed certificate of."""
    kept: Key | None = None
    keys: tuple[Key, ...] = field(default=(), repr=False)
    """Everything whose private key was found."""
    defect: AuthorityError | None = None
    """Why the named one, or what is kept, cannot be used."""
    beside: str = ""
    """What is here although nobody knows it, for a sentence."""


@dataclass(frozen=True, slots=True)
class _KeptHere:
    kept: Kept = Kept.NOTHING
    key: Key | None = None
    defect: AuthorityError | None = None


def look_for_authority(
    data_dir: Path, secret: SealingSecret, stored: StoredTrust, brought: Brought | None
) -> Looked:
    """Return what is here of the agent CA; ``brought`` is what the settings name, with its defect."""
    active = stored.active(Kind.CA)
    named, known = _standing(brought, stored.keys[Kind.CA])
    here = _kept_authority(data_dir, secret, stored)
    issuer = None if brought is None else brought.issuer
    keys = tuple(each for each in (issuer, here.key) if isinstance(each, Issuer))
    is_usable = brought is None or brought.defect is None
    situation = Situation(
        knows_active=active is not None,
        named=named,
        named_is_usable=is_usable,
        kept=here.kept,
        has_key=active is not None and (active.sealed_key is not None or _fits_any(active, keys)),
        is_moving=moving_of(stored.held(Kind.CA)) is not None,
    )
    defect = here.defect if brought is None or is_usable else brought.defect
    beside = str(data_dir / "agent-ca.crt") if here.kept is Kept.STRANGER else ""
    return Looked(situation, issuer, known, here.key, keys, defect, beside)


def look_for_signing_key(
    configured: Path | None,
    data_dir: Path,
    stored: StoredTrust,
    load: Callable[[Path], SigningKey | None],
) -> Looked:
    """Return what is here of the key of agent tokens.

    Args:
        configured: what INGEST_JWT_KEY_FILE names.
        data_dir: where the server keeps one of its own.
        stored: what the database says.
        load: reads a file; None when there is none.

    Raises:
        AuthorityError: the file that the setting names is there and cannot be used.
    """
    active = stored.active(Kind.JWT)
    named = None if configured is None else load(configured)
    known = None if named is None else stored.find(Kind.JWT, key_name(named.public_key))
    found, defect = list[SigningKey](), None
    for place in kept_key_files(data_dir) if configured is None or active is not None else ():
        try:
            if (key := load(place)) is not None:
                found.append(key)
        except AuthorityError as error:
            defect = defect or error
    return _signing_looked(stored, named, known, found, defect)


def _signing_looked(
    stored: StoredTrust,
    named: SigningKey | None,
    known: StoredKey | None,
    found: Sequence[SigningKey],
    defect: AuthorityError | None,
) -> Looked:
    active = stored.active(Kind.JWT)
    keys = (*([] if named is None else [named]), *found)
    strangers = [each for each in found if stored.find(Kind.JWT, key_name(each.public_key)) is None]
    kept = (
        Kept.NOTHING if not found and defect is None else Kept.STRANGER if strangers or defect else Kept.KNOWN
    )
    here = {key_name(each.public_key) for each in keys}
    situation = Situation(
        knows_active=active is not None,
        named=Named.NOTHING if named is None else _state_of(known),
        kept=kept,
        has_key=active is not None and (active.sealed_key is not None or active.name in here),
        is_moving=moving_of(stored.held(Kind.JWT)) is not None,
    )
    others = [each for each in keys if stored.find(Kind.JWT, key_name(each.public_key)) is None]
    beside = ", ".join(dict.fromkeys(str(each.file) for each in others))
    return Looked(situation, named, known, next(iter(found), None), keys, defect, beside)


def _standing(brought: Brought | None, rows: Sequence[StoredKey]) -> tuple[Named, StoredKey | None]:
    """Return how the agent CA that the settings name stands to those that are known, and the one that it is."""
    if brought is None:
        return Named.NOTHING, None
    candidates = brought.certificates[:1] if brought.issuer is not None else brought.certificates
    names = [sha256_of(each).hex() for each in candidates]
    if (known := next((row for row in rows if row.name in names), None)) is not None:
        is_renewed = known.state in _IN_PLACE and brought.defect is None and _lasts_longer(brought, known)
        return (Named.RENEWED if is_renewed else _state_of(known)), known
    same = [row for row in rows if signs_as(parse_chain(row.public_pem)[0]) == signs_as(candidates[0])]
    in_place = next((row for row in same if row.state in _IN_PLACE), None)
    if in_place is not None:
        return Named.RENEWED, in_place
    return (Named.PAST, same[-1]) if same else (Named.NEW, None)


def _lasts_longer(brought: Brought, known: StoredKey) -> bool:
    """Return whether the same certificate comes below others that end later than those that are stored."""
    return dates_of(brought.certificates)[1] > dates_of(parse_chain(known.public_pem))[1]


def _state_of(known: StoredKey | None) -> Named:
    return Named.NEW if known is None else _IN_PLACE.get(known.state, Named.PAST)


def _kept_authority(data_dir: Path, secret: SealingSecret, stored: StoredTrust) -> _KeptHere:
    try:
        name = name_on_disk(data_dir)
        known = None if name is None else stored.find(Kind.CA, name)
        if name is not None and known is None and stored.active(Kind.CA) is not None:
            return _KeptHere(Kept.STRANGER)
        if known is not None and known.state is TrustState.RETIRED:
            return _KeptHere(Kept.KNOWN)
        if name is not None:
            return _KeptHere(Kept.KNOWN, load_authority(data_dir, secret))
        return _key_alone(data_dir, key_on_disk(data_dir, secret), stored)
    except AuthorityError as error:
        return _KeptHere(Kept.STRANGER, defect=error)


def _key_alone(data_dir: Path, key: PrivateKeyTypes | None, stored: StoredTrust) -> _KeptHere:
    """A key whose certificate is missing: of the active one, whose certificate the database has, or of a first start."""
    active = stored.active(Kind.CA)
    if key is None or active is None:
        return _KeptHere()
    chain = parse_chain(active.public_pem)
    if isinstance(key, CaKey) and key.public_key() == chain[0].public_key():
        return _KeptHere(Kept.KNOWN, Issuer(data_dir / "agent-ca.key", chain, key))
    return _KeptHere(Kept.STRANGER)


def _fits_any(active: StoredKey, issuers: Iterable[Issuer]) -> bool:
    certificate: x509.Certificate = parse_chain(active.public_pem)[0]
    return any(each.key.public_key() == certificate.public_key() for each in issuers)
