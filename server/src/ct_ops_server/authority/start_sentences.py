"""What a start says of the agent CA or the key of agent tokens: why it is refused, or what is odd although it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ct_ops_server.authority.life_cycle import Kind
from ct_ops_server.authority.starting import Remark


@dataclass(frozen=True, slots=True)
class _Words:
    what: str
    setting: str
    again: str
    """How an operator's own one is named again."""
    files: str
    rotate: str
    bring: str
    lost: str


WORDS: Mapping[Kind, _Words] = {
    Kind.CA: _Words(
        "agent CA",
        "INGEST_AGENT_CA_CERT",
        "set INGEST_AGENT_CA_CERT and INGEST_AGENT_CA_KEY to it again",
        "agent-ca.crt, agent-ca.key",
        "ct-ops-server ca rotate",
        "ct-ops-server ca rotate --cert FILE --key FILE",
        "ct-ops-server ca replace-lost",
    ),
    Kind.JWT: _Words(
        "key of agent tokens",
        "INGEST_JWT_KEY_FILE",
        "set INGEST_JWT_KEY_FILE to it again",
        "jwt_key.pem",
        "ct-ops-server ca rotate --jwt",
        "ct-ops-server ca rotate --jwt",
        "ct-ops-server ca replace-lost --jwt",
    ),
}


def key_is_nowhere(kind: Kind, *, beside: str = "") -> str:
    """Return why a start is refused whose active one has its private key elsewhere; ``beside`` names what is here."""
    words = WORDS[kind]
    here = f" What is here ({beside}) is another one, and takes nobody's place." if beside else ""
    return (
        f"signs, as the database says, and its private key is neither there nor on this host.{here} If it is your own, "
        f"{words.again} (the next one comes by `{words.bring}`); if the server made it, copy {words.files} and the secret from the data directory of a server "
        f"that has them, or from a backup. Is the key lost for good, run `{words.lost}`."
    )


def remark_on(kind: Kind, remark: Remark, *, state: str, moving: str, kept: str, why: str) -> str:
    """Return what the log says of a start that goes on.

    Args:
        kind: of what.
        remark: what is odd.
        state: of the one that the setting names.
        moving: the one that is in the way, and how.
        kept: the file of one that is not known.
        why: what keeps the named one from being used.
    """
    words = WORDS[kind]
    match remark:
        case Remark.NAMED_IS_PAST:
            return f"{words.setting} names the {words.what} that is {state}, and is ignored: name the next one, or none"
        case Remark.NAMED_WAITS:
            return f"{words.setting} names a new {words.what}, and {moving}: finish that rotation and start again"
        case Remark.NAMED_IS_UNFIT:
            return f"{words.setting} names the {words.what} that is {state}, and what it names cannot be used: {why}"
        case Remark.KEPT_IS_A_STRANGER:
            return (
                f"the {words.what} in {kept} is not known to this database, and is left alone. To sign with it, bring "
                f"it: `{words.rotate}`, see docs/authority.md; else remove it"
            )
    return ""


def prepared(kind: Kind) -> str:
    """Return what the log says when the start has prepared the named one."""
    words = WORDS[kind]
    return f"the {words.what} in {words.setting} is prepared: `{words.rotate}` activates it"


def renewed(before: str) -> str:
    """Return what the log says when an agent CA goes on with a new certificate."""
    return (
        f"INGEST_AGENT_CA_CERT holds a new certificate of agent CA {before[:16]}: agents are given it from now on, and "
        "leaves of the one before count as before"
    )
