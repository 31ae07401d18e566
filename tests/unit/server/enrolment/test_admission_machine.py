"""Any order of registrations, decisions and waiting: what must hold after each step.

The flow is the real one on the store in memory (which passes the same contract suite as the real
stores); certificates and tokens are real. The model beside it is small: who was let in, and who is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import count

from cryptography import x509
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from hypothesis.strategies import booleans, integers, none, sampled_from

from contract.values import APPLICATION
from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.authority.agent_token import Audience
from ct_ops_server.authority.public_key import canonical_public_key
from ct_ops_server.enrolment.model import (
    Application,
    EnrolmentRefusedError,
    Refusal,
    Registration,
    TokenTerms,
)
from ct_ops_server.fleet.agents import AgentDesk, AgentError
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_enrolment import ENROLMENT, START, result_of
from fakes.memory_store import MemoryStore
from wire_client import Host


@dataclass
class Token:
    secret: str
    max_uses: int | None
    auto_approve: bool


class AdmissionMachine(RuleBasedStateMachine):
    """Hosts, tokens, operators and time."""

    tokens: Bundle[Token] = Bundle("tokens")
    hosts: Bundle[Host] = Bundle("hosts")

    def __init__(self) -> None:
        super().__init__()
        self.clock = [START]
        self.store = MemoryStore(lambda: self.clock[0])
        self.enrolment = ENROLMENT.open(self.store, self.clock)
        self.desk = AgentDesk(self.store, hint=lambda _topic: None)
        self.numbers = count(1)
        self.agent_of: dict[str, str] = {}
        """The id that a key was once given: it never becomes another's."""
        self.out: set[str] = set()
        """Keys that an operator has put out for good."""

    @rule(
        target=tokens,
        max_uses=none() | integers(1, 3),
        auto_approve=booleans(),
        days=none() | integers(1, 30),
    )
    def create_token(self, max_uses: int | None, auto_approve: bool, days: int | None) -> Token:  # noqa: FBT001  drawn
        secret = f"tok_{next(self.numbers):a>32}"
        expires_at = None if days is None else self.clock[0] + timedelta(days=days)
        terms = TokenTerms("label", auto_approve=auto_approve, max_uses=max_uses, expires_at=expires_at)
        result_of(self.store.create_token(secret, secret_digest(secret), terms, actor="test"))
        return Token(secret, max_uses, auto_approve)

    @rule(target=hosts)
    def install_host(self) -> Host:
        return Host(f"host-{next(self.numbers)}")

    @rule(target=hosts, host=hosts)
    def install_host_anew(self, host: Host) -> Host:
        return Host(host.hostname)

    @rule(host=hosts, token=tokens, proven=booleans())
    def register_with_a_token(self, host: Host, token: Token, proven: bool) -> None:  # noqa: FBT001  drawn
        self._register(host, token.secret, proven=proven)

    @rule(host=hosts, proven=booleans())
    def register_without_a_token(self, host: Host, proven: bool) -> None:  # noqa: FBT001  drawn
        self._register(host, "", proven=proven)

    @rule(host=hosts, decision=sampled_from(["approve", "reject", "revoke", "delete"]))
    def decide(self, host: Host, decision: str) -> None:
        if not host.agent_id:
            return
        try:
            result_of(getattr(self.desk, decision)(host.agent_id, actor="test"))
        except AgentError:
            return
        if decision in {"reject", "revoke"}:
            self.out.add(key_of(host))

    @rule(host=consumes(hosts))
    def scrap_host(self, host: Host) -> None:
        """A host that never comes back changes nothing."""

    @rule(hours=integers(1, 24 * 40))
    def wait(self, hours: int) -> None:
        self.clock[0] += timedelta(hours=hours)

    def _register(self, host: Host, token: str, *, proven: bool) -> None:
        spent_before = self._uses()
        known_before = self._known(host)
        refused: Refusal | None = None
        try:
            given = result_of(self.enrolment.register(application(host, token, proven=proven)))
        except EnrolmentRefusedError as error:
            refused = error.reason
        if refused is not None:
            assert spent_before == self._uses()
            assert refused is Refusal.REVOKED or not (known_before and proven)
            return
        assert isinstance(given, Registration)
        self._check_given(host, given, proven=proven)
        assert sum(spent_before.values()) + (not known_before) == sum(self._uses().values())
        host.agent_id = given.agent_id
        self.agent_of[key_of(host)] = given.agent_id

    def _check_given(self, host: Host, given: Registration, *, proven: bool) -> None:
        assert key_of(host) not in self.out
        if given.status is not AgentStatus.ACTIVE:
            assert ("", "") == (given.agent_token, given.leaf_pem)
            return
        leaf = x509.load_pem_x509_certificate(given.leaf_pem.encode())
        claims = ENROLMENT.verifier.verify(given.agent_token, now=self.clock[0])
        assert canonical_public_key(leaf.public_key()).key_id == key_of(host)
        assert claims.agent_id == given.agent_id
        first_admission = self.agent_of.get(key_of(host)) != given.agent_id
        if not proven and not first_admission:
            assert claims.audience is Audience.BOOTSTRAP

    def _uses(self) -> dict[str, int]:
        return {token.id: token.uses for token in self.store._tokens.values()}

    def _known(self, host: Host) -> bool:
        return any(row.application.key_id == key_of(host) for row in self.store._rows.values())

    @invariant()
    def no_token_was_used_more_often_than_it_may(self) -> None:
        for token in self.store._tokens.values():
            assert token.terms.max_uses is None or token.uses <= token.terms.max_uses

    @invariant()
    def a_key_is_one_agents_at_most(self) -> None:
        keys = [row.application.key_id for row in self.store._rows.values()]
        assert len(keys) == len(set(keys))

    @invariant()
    def whoever_was_put_out_is_out(self) -> None:
        for row in self.store._rows.values():
            assert row.application.key_id not in self.out or row.status is AgentStatus.REVOKED


def key_of(host: Host) -> str:
    """Return the id of a host's key."""
    return canonical_public_key(host.key.public_key()).key_id


def application(host: Host, token: str, *, proven: bool) -> Application:
    """Return what a host applies with."""
    key = canonical_public_key(host.key.public_key())
    return Application(
        token=token,
        key_id=key.key_id,
        public_key_der=key.spki_der,
        hostname=host.hostname,
        os=APPLICATION.os,
        os_version=APPLICATION.os_version,
        arch=APPLICATION.arch,
        agent_version=APPLICATION.agent_version,
        ip_addresses=(),
        claimed_tags=(),
        observed_address="192.0.2.1",
        key_is_proven=proven,
    )


TestAdmissionMachine = AdmissionMachine.TestCase
TestAdmissionMachine.settings = settings(max_examples=60, stateful_step_count=40)
