"""What a restore says of the audit files: how far they were believed, and what not."""

from __future__ import annotations

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, Entry, chained
from ct_ops_server.backup.since import Disbelieved, Since, Why
from ct_ops_server.cli.restore_output import disbelieved_lines, disbelieved_view


def approvals(count: int) -> list[Entry]:
    decisions = [Decision(Action.AGENT_APPROVED, "anna", agent=f"a{number}") for number in range(count)]
    return list(chained(decisions, START, at_ms=5))


def test_what_was_believed_is_not_worth_a_word() -> None:
    """All of it was signed."""
    chain = approvals(2)

    assert [] == disbelieved_lines(Since(chain=chain, vouched_through=2))
    assert [] == disbelieved_view(None)


def test_each_entry_that_was_not_believed_is_named_with_the_reason() -> None:
    """So that somebody who knows that it was decided decides it again."""
    chain = approvals(3)
    doubts = [
        Disbelieved(chain[1], Why.UNSIGNED),
        Disbelieved(chain[2], Why.STRANGER, "the agent is revoked"),
    ]
    since = Since(chain=chain, vouched_through=1, disbelieved=doubts, flaw="a line is torn")

    assert [
        "the audit files do not tell everything, and only what they tell was done again: a line is torn",
        "signed heads vouch for the audit files through entry 1; of entries 2 to 3 only what takes away was believed",
        "not believed: entry 2, agent.approved of a1 by anna: no signed head reaches it",
        f"not believed: entry 3, agent.approved of a2 by anna: {Why.STRANGER}; the agent is revoked",
        "if you know that it was decided so, decide it again",
    ] == disbelieved_lines(since)
    assert [(2, ""), (3, "the agent is revoked")] == [
        (each["seq"], each["instead"]) for each in disbelieved_view(since)
    ]


def test_attack_a_forged_entry_moves_no_cursor_and_thousands_do_not_scroll() -> None:
    """What somebody wrote there is shown as what it is."""
    (entry,) = chained([Decision(Action.AGENT_APPROVED, "anna", agent="a")], START, at_ms=5)
    object.__setattr__(entry, "actor", "\x1b[2Jeve\n")
    lines = disbelieved_lines(Since(disbelieved=[Disbelieved(entry, Why.BRANCH)] * 3000))

    assert all(line.isprintable() for line in lines)
    assert 22 == len(lines)
    assert "2980 more" in lines[-2]
