"""Carried requests: the same admission as on the wire, and an id that is answered once; the store is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

import pytest

from carried_files import carried_request
from ct_ops_proto.carried_enrolment import CarriedRequest
from ct_ops_proto.enrolment_token import ServerHint, parse_token
from ct_ops_server.edge.admin_carried import submission_of
from ct_ops_server.enrolment.carried import CarriedDesk, Invitation, Meeting, Signed, Waiting
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.enrolment.model import Application, EnrolmentRefusedError, Refusal, TokenState, TokenTerms
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.enrolment.tokens import TokenDesk, TokenNotFoundError
from ct_ops_server.fleet.model import AgentStatus, StreamOpening, Tag
from fakes.memory_enrolment import ENROLMENT, START
from fakes.memory_store import MemoryStore
from wire_client import Host

MEETING = Meeting(("ops.example.com:9443",), "-----BEGIN CERTIFICATE-----", b"c" * 32)
APPROVED = Invitation(approve=True)


@dataclass
class Desk:
    """A desk with everything that the test may move."""

    clock: list[datetime] = field(default_factory=lambda: [START])
    meeting: Meeting = MEETING

    def __post_init__(self) -> None:
        self.store = MemoryStore(lambda: self.clock[0])
        self.enrolment: Enrolment = ENROLMENT.open(self.store, self.clock)
        numbers = count(1)
        self.tokens = TokenDesk(
            self.store,
            self.store,
            hint=lambda: ServerHint(b"c" * 32, ("ops.example.com:9443",)),
            random_bytes=lambda size: next(numbers).to_bytes(size, "big"),
            now=lambda: self.clock[0],
        )
        self.desk = CarriedDesk(
            self.enrolment,
            self.tokens,
            self.store,
            self.store,
            meeting=lambda: self.meeting,
            installation_id="installation",
            now=lambda: self.clock[0],
        )

    def request(self, host: Host, **values: str) -> CarriedRequest:
        """Return a request made now."""
        return carried_request(host, self.clock[0], **values)

    async def sign(self, request: CarriedRequest, invitation: Invitation = APPROVED) -> Signed | Waiting:
        """Have it signed."""
        return await self.desk.sign(submission_of(request), invitation, actor="anna")

    async def signed(self, request: CarriedRequest, invitation: Invitation = APPROVED) -> Signed:
        """Have it signed, for an active agent."""
        outcome = await self.sign(request, invitation)
        assert isinstance(outcome, Signed)
        return outcome

    async def refusal(self, request: CarriedRequest, invitation: Invitation = APPROVED) -> Refusal:
        """Return why it is refused."""
        with pytest.raises(EnrolmentRefusedError) as raised:
            await self.sign(request, invitation)
        return raised.value.reason

    async def token_states(self) -> list[TokenState]:
        """Return what the tokens that were made can still do."""
        return [token.state(self.clock[0]) for token in await self.store.list_tokens()]

    async def recorded(self) -> list[tuple[Refusal, str]]:
        """Return who was refused and why."""
        return [(each.reason, each.hostname) for each in await self.store.list_refusals(limit=10)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_new_host_gets_what_a_register_gives_and_where_the_server_is(desk: Desk) -> None:
    """Leaf, token, authority, addresses; its own token is used up, and its tags are there."""
    invitation = Invitation(approve=True, tags=(Tag("site", "island"),))
    signed = await desk.signed(desk.request(Host("island-1")), invitation)
    (agent,) = await desk.store.list_agents()

    assert (signed.reply.agent_id, "island-1") == (agent.id, signed.reply.hostname)
    assert signed.reply.addresses == MEETING.addresses
    assert "BEGIN CERTIFICATE" in signed.reply.leaf_pem
    assert (Tag("site", "island"),) == tuple(agent.tags)
    assert [TokenState.EXHAUSTED] == await desk.token_states()


async def test_a_host_waits_without_approval_and_the_same_file_is_signed_after_it(desk: Desk) -> None:
    """Nothing is spent while it waits."""
    request = desk.request(Host("island-1"))
    waiting = await desk.sign(request, Invitation())
    still = await desk.sign(request)
    assert isinstance(waiting, Waiting)
    await desk.store.change_status(
        waiting.agent_id,
        allowed_from=frozenset({AgentStatus.PENDING}),
        to=AgentStatus.ACTIVE,
        actor="anna",
        reason="",
    )
    signed = await desk.signed(request)

    assert waiting == still
    assert (waiting.agent_id, False) == (signed.reply.agent_id, signed.answered_before)


async def test_a_lost_stick_is_answered_again_with_the_same_leaf(desk: Desk) -> None:
    """The very same request, while its agent has what it was given."""
    request = desk.request(Host("island-1"))
    first = await desk.signed(request)
    desk.clock[0] += timedelta(days=2)
    second = await desk.signed(request)

    assert first.reply.leaf_pem == second.reply.leaf_pem
    assert (False, True) == (first.answered_before, second.answered_before)


async def test_attack_a_request_that_was_answered_is_no_use_after_the_leaf_was_renewed(desk: Desk) -> None:
    """A copy of an old stick."""
    host = Host("island-1")
    request = desk.request(host)
    given = await desk.signed(request)
    desk.clock[0] += timedelta(hours=1)
    await desk.enrolment.renew(given.reply.agent_id, submission_of(request).application.key_id)

    assert Refusal.REQUEST_REPLAYED is await desk.refusal(request)
    assert [(Refusal.REQUEST_REPLAYED, "island-1")] == await desk.recorded()


async def test_attack_a_deleted_agent_does_not_come_back_by_its_old_request(desk: Desk) -> None:
    """Its id stays spent when the agent is gone."""
    request = desk.request(Host("island-1"))
    given = await desk.signed(request)
    await desk.store.delete_agent(given.reply.agent_id, actor="anna", reason="")

    assert Refusal.REQUEST_REPLAYED is await desk.refusal(request)
    assert [] == list(await desk.store.list_agents())


async def test_attack_another_request_under_a_spent_id_is_a_replay(desk: Desk) -> None:
    """Also one that is well signed, by a key of its own."""
    await desk.signed(desk.request(Host("island-1")))

    assert Refusal.REQUEST_REPLAYED is await desk.refusal(desk.request(Host("island-2")))


async def test_attack_a_request_edited_on_the_stick_is_refused(desk: Desk) -> None:
    """Whoever wrote another hostname into it has no key to sign that with."""
    request = replace(desk.request(Host("island-1")), hostname="payroll-1")

    assert Refusal.REQUEST_ALTERED is await desk.refusal(request)
    assert [(Refusal.REQUEST_ALTERED, "payroll-1")] == await desk.recorded()
    assert [] == await desk.token_states()


async def test_attack_a_csr_that_was_seen_elsewhere_is_no_request(desk: Desk) -> None:
    """Key and CSR of a host that somebody overheard, signed by another key."""
    victim, thief = Host("island-1"), Host("thief")
    unsigned = desk.request(victim)
    forged = replace(unsigned, signature=thief.key.sign(unsigned.signed_text()))

    assert Refusal.REQUEST_ALTERED is await desk.refusal(forged)


@pytest.mark.parametrize(("age_days", "is_young"), [(29.9, True), (30.1, False), (31, False)])
async def test_attack_a_request_of_last_month_is_too_old(
    desk: Desk, age_days: float, *, is_young: bool
) -> None:
    """Its id may be forgotten by now, so its age has to do."""
    request = desk.request(Host("island-1"))
    desk.clock[0] += timedelta(days=age_days)

    if is_young:
        await desk.signed(request)
    else:
        assert Refusal.REQUEST_TOO_OLD is await desk.refusal(request)


@pytest.mark.parametrize(("hours", "is_borne"), [(23, True), (25, False)])
async def test_a_request_of_tomorrow_is_borne_and_one_of_next_week_is_not(
    desk: Desk, hours: float, *, is_borne: bool
) -> None:
    """A host without a network has a clock of its own; a made-up date would outlive the memory of its id."""
    request = carried_request(Host("island-1"), START + timedelta(hours=hours))

    if is_borne:
        await desk.signed(request)
    else:
        assert Refusal.REQUEST_FROM_THE_FUTURE is await desk.refusal(request)


async def test_attack_a_revoked_key_stays_out(desk: Desk) -> None:
    """By a new request, with a new id, from an operator who approves."""
    host = Host("island-1")
    given = await desk.signed(desk.request(host))
    await desk.store.change_status(
        given.reply.agent_id,
        allowed_from=frozenset({AgentStatus.ACTIVE}),
        to=AgentStatus.REVOKED,
        actor="anna",
        reason="",
    )

    assert Refusal.REVOKED is await desk.refusal(desk.request(host, request_id="b" * 32))
    assert [TokenState.EXHAUSTED] == await desk.token_states()


async def test_a_host_in_quarantine_gets_no_reply(desk: Desk) -> None:
    """Neither by a new request nor by the one that was answered: somebody has to say whose identity it is."""
    host = Host("island-1")
    request = desk.request(host)
    given = await desk.signed(request)
    await desk.store.change_status(
        given.reply.agent_id,
        allowed_from=frozenset({AgentStatus.ACTIVE}),
        to=AgentStatus.QUARANTINED,
        actor="server",
        reason="",
    )
    outcomes = [await desk.sign(each) for each in (request, desk.request(host, request_id="b" * 32))]

    assert [Waiting(given.reply.agent_id)] * 2 == outcomes


async def test_a_twin_that_is_offline_makes_the_host_wait_even_with_approval(desk: Desk) -> None:
    """--approve decides about new hosts; what looks like another one needs a decision of its own."""
    await desk.signed(desk.request(Host("island-1")))
    waiting = await desk.sign(desk.request(Host("island-1"), request_id="b" * 32))
    assert isinstance(waiting, Waiting)
    (found,) = await desk.store.find_agents(waiting.agent_id)

    assert "has the same hostname" in found.evidence


async def test_attack_a_copy_of_a_live_machine_is_refused_and_its_token_is_revoked(desk: Desk) -> None:
    """Same machine id, online: nobody is admitted, and the token that was made for it admits nobody."""
    given = await desk.signed(desk.request(Host("island-1"), machine_id="ab" * 32))
    await desk.store.renew_lease("worker")
    (agent,) = await desk.store.list_agents()
    await desk.store.open_stream(
        StreamOpening(
            agent_id=given.reply.agent_id,
            key_id=agent.key_id,
            worker_id="worker",
            interval=None,
        )
    )
    copy = desk.request(Host("island-2"), request_id="b" * 32, machine_id="ab" * 32)

    assert Refusal.HOST_ALREADY_ENROLLED is await desk.refusal(copy)
    assert [TokenState.REVOKED, TokenState.EXHAUSTED] == await desk.token_states()


async def test_a_known_key_is_welcome_again_without_any_token(desk: Desk) -> None:
    """A host that lost its certificate, or was given another server CA, comes with a new request."""
    host = Host("island-1")
    first = await desk.signed(desk.request(host))
    second = await desk.signed(desk.request(host, request_id="b" * 32), Invitation())

    assert first.reply.agent_id == second.reply.agent_id
    assert [TokenState.EXHAUSTED] == await desk.token_states()


async def test_a_token_that_is_named_decides_with_its_terms(desk: Desk) -> None:
    """Approval and uses are the token's."""
    terms = TokenTerms("islands", auto_approve=True, max_uses=1)
    made = await desk.tokens.create(terms, actor="anna")
    named = Invitation(selector="islands")
    await desk.signed(desk.request(Host("island-1")), named)
    second = await desk.refusal(desk.request(Host("island-2"), request_id="b" * 32), named)
    (used,) = await desk.store.find_tokens(made.record.id)

    assert (1, Refusal.TOKEN_EXHAUSTED) == (used.uses, second)


async def test_a_token_is_named_by_its_digest_too(desk: Desk) -> None:
    """Of whoever has the token itself at hand; one that is not ours is refused as on the wire."""
    made = await desk.tokens.create(TokenTerms("islands", auto_approve=True), actor="anna")
    digest = parse_token(made.token).digest
    await desk.signed(desk.request(Host("island-1")), Invitation(digest=digest))
    stranger = Invitation(digest=bytes(32))

    assert Refusal.TOKEN_UNKNOWN is await desk.refusal(
        desk.request(Host("island-2"), request_id="b" * 32), stranger
    )


async def test_a_token_for_certain_networks_admits_nobody_who_was_carried_here(desk: Desk) -> None:
    """Where the host is cannot be seen, so it is not believed."""
    await desk.tokens.create(TokenTerms("lan", auto_approve=True, networks=("192.0.2.0/24",)), actor="anna")

    assert Refusal.TOKEN_NETWORK is await desk.refusal(
        desk.request(Host("island-1")), Invitation(selector="lan")
    )


async def test_a_token_that_is_not_there_is_said(desk: Desk) -> None:
    """A typing mistake of the operator's is no refusal of the host."""
    with pytest.raises(TokenNotFoundError):
        await desk.sign(desk.request(Host("island-1")), Invitation(selector="none"))

    assert [] == await desk.recorded()


async def test_nothing_is_given_out_when_nobody_knows_where_the_server_is(desk: Desk) -> None:
    """A reply without an address would strand the host."""
    desk.meeting = replace(MEETING, addresses=())
    with pytest.raises(ValueError, match="INGEST_PUBLIC_ADDRESS"):
        await desk.sign(desk.request(Host("island-1")))

    assert [] == list(await desk.store.list_agents())


async def test_of_two_servers_that_sign_the_same_file_at_once_both_give_the_same_leaf(desk: Desk) -> None:
    """The second one finds the id spent by the very same request."""
    request = desk.request(Host("island-1"))
    forgetful = Forgetful(desk)
    first, second = await desk.signed(request), await forgetful.signed(request)

    assert first.reply.leaf_pem == second.reply.leaf_pem


@dataclass
class Forgetful:
    """A second server, which looked before the first one wrote."""

    desk: Desk

    async def signed(self, request: CarriedRequest) -> Signed:
        found, self.looks = self.desk.store.find_answered, 0

        async def too_early(request_id: str) -> AnsweredRequest | None:
            self.looks += 1
            return None if self.looks == 1 else await found(request_id)

        self.desk.store.find_answered = too_early  # type: ignore[method-assign]  # one look comes too early
        return await self.desk.signed(request)


def test_a_carried_application_comes_from_no_address(desk: Desk) -> None:
    """And says what the host said, cleaned as a Register's is."""
    submission = submission_of(desk.request(Host("island-1")))
    application: Application = submission.application

    assert ("", True) == (application.observed_address, application.key_is_proven)
    assert (("192.0.2.7",), (Tag("rack", "7"),)) == (application.ip_addresses, application.claimed_tags)
