"""Who can follow when the server's CA changes, and when somebody has to be told that many cannot. Pure.

Agents of ours report which server CAs they believe (``store.anchors``). Whoever never reported is an *existing*
agent, or one too old: it believes what it was given, for good, and cannot learn another (rule 22). One that keeps to
what an operator configured on its host cannot either, but there somebody can change that.

A change of the CA that signs is refused while too few can follow, unless it is forced. With a cross-certificate in
the chain nobody is cut off before the old CA's own end; what ``objections`` say then is who will be. Where there is
none, nobody is cut off at all unless it is forced: an agent that is cut off can no longer learn anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

ENOUGH = 0.95
"""The share of the fleet that must believe a server CA before it signs, when the rest has until the old one's end."""

ALARM_DAYS = (180, 90, 30)
NAMED = 20
"""How many of those who cannot follow are named; all are counted."""


class AnchorSource(StrEnum):
    """Where an agent's server CAs come from: what it says itself."""

    LEARNT = "learnt"
    OPERATOR = "operator"
    HOST = "host"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class Believed:
    """What one agent reported."""

    source: AnchorSource
    anchors: frozenset[bytes]
    """SHA-256 each."""


@dataclass(frozen=True, slots=True)
class Following:
    """How much of the fleet believes a server CA."""

    agents: int
    """Active ones."""
    following: int
    existing: int
    """Of those who do not: the ones that cannot learn at all."""
    configured: int
    """And those that keep to what an operator configured."""
    names: tuple[str, ...]
    """Host names of those who do not, at most ``NAMED``; existing agents first."""

    @property
    def share(self) -> float:
        """1 for an empty fleet: nobody is left behind."""
        return self.following / self.agents if self.agents else 1.0


def objections(following: Following, *, vouched: bool) -> tuple[str, ...]:
    """Return what speaks against letting a server CA sign, or against forgetting the one before.

    Args:
        following: who believes the one that remains.
        vouched: whether a chain that the others believe leads to it until the old one's end.
    """
    if following.share >= (ENOUGH if vouched else 1.0):
        return ()
    left = following.agents - following.following
    when = "once the old one ends" if vouched else "at once"
    names = ", ".join(following.names) + (", …" if left > len(following.names) else "")
    believe = f"{left} of {following.agents} agents do not believe it yet"
    sentences = [f"{believe} and would be cut off {when}: {names}"]
    if following.existing:
        sentences.append(
            f"{following.existing} of them are existing agents, which cannot learn it: give each the new CA by hand, or "
            "install the new agent there"
        )
    if following.configured:
        sentences.append(
            f"{following.configured} of them keep to a CA that is configured on the host (ingest.ca_cert_file): put the "
            "new one into that file, beside the old one"
        )
    return tuple(sentences)


def alarm_due(end: datetime, *, now: datetime, warned_days: int | None) -> int | None:
    """Return the threshold in days to warn about now; None when there is none, or it was done.

    Args:
        end: of what existing agents believe.
        now: the moment.
        warned_days: the last threshold that was warned about for this very end; None: none was.
    """
    crossed = [days for days in ALARM_DAYS if end - now < timedelta(days=days)]
    if not crossed or (warned_days is not None and warned_days <= min(crossed)):
        return None
    return min(crossed)


def alarm_sentence(end: datetime, existing: Sequence[str], count: int, *, now: datetime) -> str:
    """Return what is said at a threshold."""
    names = ", ".join(existing) + (", …" if count > len(existing) else "")
    left = f"ends in {(end - now).days} days ({end:%Y-%m-%d})" if now < end else f"ended on {end:%Y-%m-%d}"
    return (
        f"the server CA that existing agents believe {left}, and {count} existing agents cannot learn another: "
        f"{names}. Give them the new one by hand, or install the new agent there; see `ct-ops-server ca server status`"
    )
