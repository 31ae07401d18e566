"""The chain by itself: what a decision keeps, how entries hang together, what an examination finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.audit import decisions
from ct_ops_server.audit.decisions import LONGEST_TEXT, MEANINGS, Action, Decision
from ct_ops_server.audit.entries import START, Entry, canonical, chained, fields_of
from ct_ops_server.audit.verification import Break, Fault, breaks

SECRET = "tok_" + "a2b3c4d5" * 4


def entries(count: int) -> list[Entry]:
    decisions = [Decision(Action.AGENT_REVOKED, "ada", agent=f"agent-{number}") for number in range(count)]
    return list(chained(decisions, START, at_ms=1_800_000_000_000))


def test_every_action_has_a_meaning() -> None:
    """The documentation prints them all."""
    assert set(Action) == set(MEANINGS)


def test_every_action_is_recorded_somewhere() -> None:
    """The documentation promises none that nobody would ever find."""
    package = Path(decisions.__file__).parent.parent
    sources = [path for path in package.rglob("*.py") if path != Path(decisions.__file__)]
    text = "".join(path.read_text() for path in sources)
    by_name = {action for action in Action if f"Action.{action.name}" in text}

    # Those that follow a table of their own are named by it, or told by a command.
    assert set(Action) == by_name | {action for action in Action if f'"{action.value}"' in text}


def test_a_chain_as_it_was_written_is_whole() -> None:
    """Nothing is found in it, from its start or from any place in it."""
    chain = entries(5)

    assert [] == breaks(chain)
    assert [] == breaks(chain[2:], after=chain[1].link)


def test_an_entry_that_was_changed_is_named() -> None:
    """Attack: somebody rewrites who decided, and nothing else."""
    chain = entries(5)
    chain[2] = replace(chain[2], actor="mallory")

    assert [Break(Fault.CHANGED, 3)] == breaks(chain)


def test_a_changed_entry_with_a_new_hash_is_betrayed_by_the_next_one() -> None:
    """Attack: the hash of the changed entry is made to fit; the one behind it was made before."""
    chain = entries(5)
    forged = chained([Decision(Action.AGENT_REVOKED, "mallory", agent="agent-2")], chain[1].link, at_ms=1)
    chain[2] = forged[0]

    assert [Break(Fault.CHANGED, 4)] == breaks(chain)


def test_entries_that_were_removed_are_named() -> None:
    """Attack: two entries are cut out of the middle."""
    chain = entries(6)
    del chain[2:4]

    found = breaks(chain)

    assert [Break(Fault.MISSING, 3, 4)] == found
    assert "entry 3 to 4 is missing" == str(found[0])


def test_entries_that_were_swapped_are_named() -> None:
    """Attack: two entries change places."""
    chain = entries(5)
    chain[2], chain[3] = chain[3], chain[2]

    assert [Break(Fault.MISSING, 3, 3), Break(Fault.REORDERED, 3)] == breaks(chain)


def test_an_entry_that_was_repeated_is_named() -> None:
    """Attack: an entry is there twice."""
    chain = entries(3)
    chain.insert(2, chain[1])

    assert [Break(Fault.REORDERED, 2)] == breaks(chain)


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        f"{SECRET}.hint",
        "eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----",
    ],
)
def test_secrets_never_get_into_a_decision(secret: str) -> None:
    """Wherever somebody put one by mistake."""
    decision = Decision(
        Action.TOKEN_MADE,
        f"ada {secret}",
        agent=secret,
        token=secret,
        subject=secret,
        details={"text": secret, secret: "key", "list": (secret,)},
    )

    kept = canonical(fields_of(chained([decision], START, at_ms=1)[0])).decode()

    assert "<hidden>" in kept
    assert all(part not in kept for part in (SECRET, "eyJhbGciOi", "MC4CAQAwBQ"))


@given(st.text(max_size=2 * LONGEST_TEXT))
def test_whatever_a_host_says_fits_into_an_entry(text: str) -> None:
    """No NUL, no line break, no lone surrogate, no novel; and it reads back as it was hashed (rule 15)."""
    decision = Decision(Action.AGENT_ADMITTED, text, details={"hostname": text, "addresses": (text, text)})

    fields = fields_of(chained([decision], START, at_ms=1)[0])

    assert canonical(json.loads(canonical(fields))) == canonical(fields)
    assert len(decision.actor) <= LONGEST_TEXT
    assert decision.actor.isprintable()


def test_numbers_that_no_database_takes_are_cut() -> None:
    """An integer beyond 63 bits would stop the whole group (rule 15)."""
    decision = Decision(Action.AGENT_ADMITTED, "ada", details={"count": 2**70, "yes": True})

    assert {"count": 2**63 - 1, "yes": True} == decision.details
