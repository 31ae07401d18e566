"""Which keys sign heads, and which entries nobody vouched for: both are said by the chain itself.

* A server that begins to sign with a key **announces** it in an entry. So whoever has the chain up to there, in a database or
  a backup, knows the keys of all nodes; and a later key is believed when a head of a known one stands behind its entry.
* A restore puts entries back that no signed head reached, and says which (``unvouched``): the heads that its server signs
  behind them vouch for what is decided from then on, never for those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.decisions import SERVER, Action, Decision, Detail
from ct_ops_server.audit.entries import Entry
from ct_ops_server.audit.heads import key_name

_PUBLIC = "public_key"
_BEFORE = "key_before"
_FROM, _TO = "unvouched_from", "unvouched_to"


def announcement(key: Ed25519PublicKey, *, before: str = "") -> Decision:
    """Return the decision to sign with a key; ``before`` is the name of the one that this directory had."""
    details = {_PUBLIC: key_hex(key), _BEFORE: before}
    return Decision(Action.AUDIT_KEY_USED, SERVER, subject=key_name(key), details=details)


def announced(entries: Iterable[Entry]) -> Mapping[str, Ed25519PublicKey]:
    """Return the keys that entries announce, by their names, without those that nobody vouched for."""
    known = list(entries)
    doubts = unvouched_ranges(known)
    announcing = (each for each in known if each.action == Action.AUDIT_KEY_USED.value)
    sure = (each for each in announcing if not any(each.seq in doubt for doubt in doubts))
    keys = (parse_key_hex(each.details.get(_PUBLIC)) for each in sure)
    return {key_name(key): key for key in keys if key is not None}


def unvouched(first: int, last: int) -> Mapping[str, Detail]:
    """Return what a restore says of entries that it put back although no signed head reached them."""
    return {_FROM: first, _TO: last} if first <= last else {}


def unvouched_ranges(entries: Iterable[Entry]) -> Sequence[range]:
    """Return the numbers that restores said this of. The latest is asked first: what it doubts can doubt nothing itself."""
    restores = [entry for entry in entries if entry.action == Action.DATABASE_RESTORED.value]
    found: list[range] = []
    for entry in sorted(restores, key=lambda each: each.seq, reverse=True):
        first, last = entry.details.get(_FROM), entry.details.get(_TO)
        is_doubted = any(entry.seq in doubt for doubt in found)
        if isinstance(first, int) and isinstance(last, int) and not is_doubted:
            found.append(range(first, last + 1))
    return found


def key_hex(key: Ed25519PublicKey) -> str:
    """Return a public key's 32 bytes in hex."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def parse_key_hex(text: object) -> Ed25519PublicKey | None:
    """Return the key; None when it is none."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(text)))
    except ValueError:
        return None
