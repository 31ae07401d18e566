"""What the server says it has, beside what this outbox knows: one decision, over values.

The server says (S, D): the number of the last batch it has of this outbox, and its digest. ``acked`` is
our last acknowledged number; batches above it are *frozen*, those at and below it *retained* for a
while, and of older ones only the ledger knows what they held.

====  ==========================================================  =============  =========================
case  what is found                                               what follows   gone on the server
====  ==========================================================  =============  =========================
a     S = acked, D is ours                                        go on          nothing
b     S is a frozen one's number, D its digest                    acked := S     nothing
c     S < acked, D is ours, S + 1 … acked are all retained        acked := S     nothing
d1    S < acked, D is ours, not all of them are retained          start over     the ledger after S
d2    anything else; the agent id is another                      start over     nothing
d3    anything else; S ≥ acked, and the store is the same         start over     nothing
d4    anything else                                               start over     the whole ledger
====  ==========================================================  =============  =========================

* *Start over*: a new outbox id, number 1, and everything that is retained or frozen is sent again.
* Another agent id means another server. What was delivered to that one is no gap here: it comes before d1
  as well.
* A store that is the same has never gone back, so a server that is ahead of us (our data directory was
  restored, or cloned) has all that we ever delivered.
* S = 0 in another store of the same server: it was restored from a backup older than this outbox id. Then
  what was delivered under earlier ids is gone as well, whichever case it is.
* A digest that is ours means that all batches up to its number are: each one's payload holds the digest of the
  one before. Without that two copies of a directory, which numbered different items first and the same
  items next, would take each other's history for their own.

A duplicate is no harm (servers know items by their content), a loss that is not said is. So in doubt more
is resent, and more is said to be gone, than may be true.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

NOTHING_GONE = 2**63 - 1
EVERYTHING_GONE = -1


class Step(Enum):
    """What follows."""

    GO_ON = "a"
    LOST_ACKNOWLEDGEMENT = "b"
    REWIND = "c"
    START_OVER = "d"


@dataclass(frozen=True)
class Theirs:
    """What the server says of an outbox."""

    outbox_id: bytes
    seq: int
    digest: bytes
    store_id: bytes
    agent_id: str
    """The name it gave this agent."""


@dataclass(frozen=True)
class Ours:
    """What this outbox knows."""

    acked_seq: int
    last_seq: int
    """Of the newest frozen batch; `acked_seq` when there is none."""

    retained_from: int
    """From here to `acked_seq` every batch is retained; ``acked_seq + 1``: none is."""

    digest_at_theirs: bytes | None
    """Of our batch with the server's number; ``None``: not known. Empty for number 0."""

    store_id: bytes
    agent_id: str
    """Whom the server that was last spoken to took us for; empty: none was."""


@dataclass(frozen=True)
class Decision:
    """What to do."""

    step: Step
    acked_seq: int
    """From now on."""

    gone_after: int = NOTHING_GONE
    """What the ledger holds above this number is gone on the server."""


def decide(ours: Ours, theirs: Theirs) -> Decision:
    """Compare."""
    agrees = ours.digest_at_theirs == theirs.digest
    gone = _gone_before_this_outbox(ours, theirs)
    if agrees and theirs.seq == ours.acked_seq:
        return Decision(Step.GO_ON, ours.acked_seq, gone)
    if agrees and ours.acked_seq < theirs.seq <= ours.last_seq:
        return Decision(Step.LOST_ACKNOWLEDGEMENT, theirs.seq, gone)
    if agrees and ours.retained_from - 1 <= theirs.seq < ours.acked_seq:
        return Decision(Step.REWIND, theirs.seq, gone)
    return Decision(Step.START_OVER, 0, _gone_when_starting_over(ours, theirs, agrees=agrees))


def _gone_before_this_outbox(ours: Ours, theirs: Theirs) -> int:
    restored = theirs.store_id != ours.store_id and theirs.agent_id == ours.agent_id
    return EVERYTHING_GONE if restored and theirs.seq == 0 else NOTHING_GONE


def _gone_when_starting_over(ours: Ours, theirs: Theirs, *, agrees: bool) -> int:
    if theirs.agent_id != ours.agent_id:
        return NOTHING_GONE
    if theirs.store_id == ours.store_id and theirs.seq >= ours.acked_seq:
        return NOTHING_GONE
    if agrees and theirs.seq > 0:
        return theirs.seq
    same_store = theirs.store_id == ours.store_id
    return 0 if agrees and same_store else EVERYTHING_GONE
