"""The simulation must be able to fail: each known defect, planted, is found within a few dozen seeds.

A defect is planted where the rule lives: in the product, or in a fake where the product's rule is an SQL statement
(the contract suites hold the fakes to the real statements).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ct_ops_agent.delivery.outbox import Outbox
from ct_ops_server.audit.decisions import Action
from ct_ops_server.authority.issuer import Issuer
from ct_ops_server.authority.server_ca_chain import Chain, chain_of
from ct_ops_server.authority.server_ca_lineage import Lineage, Member
from ct_ops_server.authority.server_leaf import reason_to_issue
from ct_ops_server.backup import since
from ct_ops_server.enrolment import admission
from ct_ops_server.fleet import sides
from ct_ops_server.fleet.hurry import Act
from ct_ops_server.fleet.model import AgentStatus, HeartbeatWrite
from ct_ops_server.fleet.sides import Judged, Proof, SideLog, Sight
from fakes.memory_hurry import MemoryHurry
from fakes.memory_store import MemoryStore
from fakes.memory_tokens import MemoryTokens
from simulation.fleet_events import plan
from simulation.fleet_history import live
from simulation.fleet_world import Size

_SEEDS = 60
_SIZE = Size(hosts=2, days=200, interval_days=15, events=16)
Planted = Callable[[], AbstractContextManager[object]]


async def _of_any_stream(self: MemoryStore, write: HeartbeatWrite, *, patience_s: float = 0.0) -> bool:
    row = self._rows.get(write.agent_id)
    if row is None or row.status is not AgentStatus.ACTIVE:
        return False
    row.last_seen_at = self._now()
    return True


def generations_are_not_compared() -> AbstractContextManager[object]:
    """A heartbeat of an older stream is accepted (rule 18)."""
    return mock.patch.object(MemoryStore, "record_heartbeat", _of_any_stream)


def what_is_gone_is_not_said() -> AbstractContextManager[object]:
    """A server that went back has lost what its agents do not have any more, and no gap says so."""
    return mock.patch.object(Outbox, "_say_what_is_gone")


@contextmanager
def a_replay_is_taken_for_a_proof() -> Iterator[None]:
    """A Register that anybody can say again gets a full agent token (rule 12)."""

    def welcome(rule: admission.Rule) -> admission.Rule:
        is_hand_over = rule.key == "active" and rule.proven == "no"
        answer = (lambda case: admission.Welcome(case.known)) if is_hand_over else rule.answer
        return replace(rule, answer=answer)

    with mock.patch.object(admission, "RULES", tuple(map(welcome, admission.RULES))):
        yield


@contextmanager
def spent_tokens_admit() -> Iterator[None]:
    """Uses of enrolment tokens are counted, and nothing comes of it."""
    rules = tuple(rule for rule in admission.RULES if rule.token != "exhausted")
    with (
        mock.patch.object(admission, "RULES", rules),
        mock.patch.object(MemoryTokens, "check", lambda self, token_id: self._tokens[token_id]),
    ):
        yield


def tombstones_are_forgotten() -> AbstractContextManager[object]:
    """Who was deleted comes back with the leaf he still has (rule 25)."""
    return mock.patch.object(MemoryStore, "_is_taken", lambda self, agent_id: agent_id in self._rows)


def dates_of_leaves_are_not_looked_at() -> AbstractContextManager[object]:
    """OpenSSL lets expired leaves through; then nobody looks again (rule 1)."""
    return mock.patch("ct_ops_server.authority.leaf_identity._out_of_order", return_value=None)


def a_forgotten_agent_is_a_stranger() -> AbstractContextManager[object]:
    """Who was enrolled after the backup that was restored is not known by his leaf (rule 25)."""
    rules = tuple(rule for rule in admission.RULES if rule.key != "unknown, in our leaf")
    return mock.patch.object(admission, "RULES", rules)


def copies_are_not_noticed() -> AbstractContextManager[object]:
    """Two hosts speak as one agent, and nothing is made of it (rule 19)."""

    def judge(log: SideLog, _sight: Sight) -> Judged:
        return Judged(log, is_news=False)

    return mock.patch("fakes.memory_store.judge", judge)


def a_restarted_host_is_its_own_rival() -> AbstractContextManager[object]:
    """Another process of an agent is taken for a copy of the one before (rule 19)."""

    def judge(log: SideLog, sight: Sight) -> Judged:
        judged = sides.judge(log, sight)
        is_another = bool(log.seen) and len(judged.log.seen) > len(log.seen)
        return replace(judged, proof=Proof.TWO_CAME_BACK) if is_another else judged

    return mock.patch("fakes.memory_store.judge", judge)


def a_kept_side_is_its_own_rival() -> AbstractContextManager[object]:
    """After a split, the earlier processes of the host that was kept are taken for copies of it (rule 19)."""
    return mock.patch.object(sides, "is_one_host", return_value=False)


def replacements_are_not_told() -> AbstractContextManager[object]:
    """A server that went back does not hear which hosts took the place of others since (rule 25)."""
    told = {action: make for action, make in since._EVENTS.items() if action != Action.AGENT_REPLACED.value}
    return mock.patch.object(since, "_EVENTS", told)


def splits_are_not_told() -> AbstractContextManager[object]:
    """Nor which keys more than one host holds."""
    told = {action: make for action, make in since._EVENTS.items() if action != Action.AGENT_SPLIT.value}
    return mock.patch.object(since, "_EVENTS", told)


def a_forgotten_agent_that_was_split_is_a_stranger() -> AbstractContextManager[object]:
    """With its copies, though one of them kept it (rule 25)."""
    rules = tuple(rule for rule in admission.RULES if rule.key != "split, in our leaf")
    return mock.patch.object(admission, "RULES", rules)


def nobody_is_spared_a_hurry() -> AbstractContextManager[object]:
    """An existing agent on Windows is made to renew, too: it ends, and nobody starts it again (rule 22)."""
    return mock.patch.object(MemoryHurry, "stays_down", return_value=False)


def a_hurry_has_no_pace() -> AbstractContextManager[object]:
    """A fleet is made to renew as fast as it can be told (rule 22)."""
    return mock.patch("fakes.memory_hurry.decide", return_value=Act.SEND)


def a_chain_is_cut_off() -> AbstractContextManager[object]:
    """Of an agent CA that operators bring its own certificate is kept, and not the root above it (rule 1)."""
    alone = property(lambda issuer: issuer.certificate.public_bytes(Encoding.PEM).decode())
    return mock.patch.object(Issuer, "pem", alone)


def a_server_certificate_of_the_future_is_kept() -> AbstractContextManager[object]:
    """The server's clock was years ahead, and nobody looks again."""

    def reason(old: x509.Certificate | None, *, now: datetime, **others: Any) -> str | None:
        begins = now if old is None else old.not_valid_before_utc
        return reason_to_issue(old, now=max(now, begins), **others)

    return mock.patch("ct_ops_server.authority.server_certificate.reason_to_issue", reason)


def an_older_server_ca_leads_nowhere() -> AbstractContextManager[object]:
    """After a second change of the server's CA, whoever believes the first one is not led to the third."""

    def chain(lineage: Lineage, signer: Member, now: datetime) -> Chain:
        whole = chain_of(lineage, signer, now)
        return replace(whole, crosses=whole.crosses[:1])

    return mock.patch("ct_ops_server.authority.server_ca.chain_of", chain)


def a_retired_server_ca_is_retired_too_early() -> AbstractContextManager[object]:
    """The server's CA is changed whoever believes the next one (rule 22)."""
    return mock.patch("ct_ops_server.fleet.server_ca_desk.objections", return_value=())


_KINDS: dict[Planted, tuple[str, ...]] = {
    copies_are_not_noticed: ("clone", "restart", "rotate key", "revoke token", "stop server"),
    nobody_is_spared_a_hurry: ("hurry",),
    a_hurry_has_no_pace: ("hurry",),
    a_chain_is_cut_off: ("bring authority", "stop server"),
    a_server_certificate_of_the_future_is_kept: ("leap of server clock",),
    an_older_server_ca_leads_nowhere: ("change server CA", "switch off", "lose network"),
    a_retired_server_ca_is_retired_too_early: ("change server CA", "switch off", "lose network"),
    a_forgotten_agent_is_a_stranger: ("back up", "restore"),
    a_kept_side_is_its_own_rival: ("clone", "restart"),
    a_restarted_host_is_its_own_rival: ("restart",),
    replacements_are_not_told: ("replace", "back up", "restore"),
    splits_are_not_told: ("clone", "back up", "restore"),
    a_forgotten_agent_that_was_split_is_a_stranger: ("clone", "back up", "restore"),
    what_is_gone_is_not_said: ("back up", "restore", "restart"),
}
"""What has to happen for it; where nothing is said, whatever the dice choose."""

_FIRST_SEED: dict[Planted, int] = {
    splits_are_not_told: 50,
    a_forgotten_agent_that_was_split_is_a_stranger: 20,
}
"""Where to begin looking, so that what is rare is found within seconds."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "plant",
    [
        generations_are_not_compared,
        what_is_gone_is_not_said,
        a_replay_is_taken_for_a_proof,
        spent_tokens_admit,
        tombstones_are_forgotten,
        dates_of_leaves_are_not_looked_at,
        a_forgotten_agent_is_a_stranger,
        copies_are_not_noticed,
        a_restarted_host_is_its_own_rival,
        a_kept_side_is_its_own_rival,
        replacements_are_not_told,
        splits_are_not_told,
        a_forgotten_agent_that_was_split_is_a_stranger,
        nobody_is_spared_a_hurry,
        a_hurry_has_no_pace,
        a_chain_is_cut_off,
        a_server_certificate_of_the_future_is_kept,
        an_older_server_ca_leads_nowhere,
        a_retired_server_ca_is_retired_too_early,
    ],
)
def test_a_planted_defect_is_found(plant: Planted) -> None:
    """Some seed fails with it; the suite's own seeds show that none fails without."""
    first = _FIRST_SEED.get(plant, 0)
    with plant():
        assert any(
            live(seed, _SIZE, plan(seed, _SIZE, _KINDS.get(plant, ()))).failed
            for seed in range(first, first + _SEEDS)
        )
