"""Any order of what operators do with enrolment tokens and hosts do with them: no use is lost, none is spent twice.

The flow, the desk and the table are the real ones, on the store in memory (which passes the same contract
suite as the real stores). Beside them stands a model that knows nothing of tables: for each token what was
said about it, and which keys it has let in.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, invariant, multiple, rule
from hypothesis.strategies import integers, none, sampled_from

from contract.values import APPLICATION
from ct_ops_proto.enrolment_token import ServerHint, parse_token
from ct_ops_server.enrolment.model import Application, EnrolmentRefusedError, Refusal, TokenState, TokenTerms
from ct_ops_server.enrolment.tokens import TokenDesk, TokenExistsError
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_enrolment import ENROLMENT, START, result_of
from fakes.memory_store import MemoryStore

LAB, OFFICE = "192.0.2.0/24", "2001:db8::/32"
ADDRESSES = ("192.0.2.7", "198.51.100.7", "2001:db8::7")


@dataclass
class Token:
    """What was said about a token, and what it has done."""

    id: str
    secret: str
    max_uses: int | None
    ends: datetime | None
    networks: tuple[str, ...]
    only_web: bool
    used_before: int = 0
    revoked_by: str | None = None
    admitted: list[str] = field(default_factory=list)
    """Keys, one for each use: a host that was deleted and came back stands here twice."""

    def expected(self, host: Host, now: datetime) -> Refusal | None:
        """Return why this host is not let in now, None when it is."""
        address = ipaddress.ip_address(host.address)
        if self.revoked_by is not None:
            return Refusal.TOKEN_REVOKED
        if self.ends is not None and self.ends <= now:
            return Refusal.TOKEN_EXPIRED
        if self.max_uses is not None and self.uses >= self.max_uses:
            return Refusal.TOKEN_EXHAUSTED
        if self.networks and not any(address in ipaddress.ip_network(each) for each in self.networks):
            return Refusal.TOKEN_NETWORK
        if self.only_web and not host.name.startswith("web-"):
            return Refusal.TOKEN_HOSTNAME
        return None

    @property
    def uses(self) -> int:
        return self.used_before + len(self.admitted)


@dataclass(frozen=True)
class Host:
    """A host with a key of its own; no two have a name in common, so there are no twins."""

    name: str
    address: str

    def application(self, token: str) -> Application:
        return replace(
            APPLICATION,
            token=token,
            key_id=f"key of {self.name}",
            hostname=self.name,
            observed_address=self.address,
            key_is_proven=False,
        )


class TokenMachine(RuleBasedStateMachine):
    """Operators, hosts and time."""

    tokens: Bundle[Token] = Bundle("tokens")
    hosts: Bundle[Host] = Bundle("hosts")

    def __init__(self) -> None:
        super().__init__()
        self.clock = [START]
        self.store = MemoryStore(lambda: self.clock[0])
        self.enrolment = ENROLMENT.open(self.store, self.clock)
        self.agents = AgentDesk(self.store, hint=lambda _topic: None)
        self.numbers = count(1)
        self.desk = TokenDesk(
            self.store,
            self.store,
            hint=lambda: ServerHint(bytes(32), ("ops.example.com:9443",)),
            random_bytes=lambda size: next(self.numbers).to_bytes(size, "big"),
            now=lambda: self.clock[0],
        )
        self.model: list[Token] = []
        self.holder: dict[str, tuple[str, Token]] = {}
        """For each key that is enrolled now: the agent's id, and the token that let it in."""

    @rule(
        target=tokens,
        max_uses=none() | integers(1, 3),
        days=none() | integers(1, 20),
        networks=sampled_from([(), (LAB,), (LAB, OFFICE)]),
        pattern=sampled_from(["", "web-*", "WEB-*"]),
    )
    def create(
        self, max_uses: int | None, days: int | None, networks: tuple[str, ...], pattern: str
    ) -> Token:
        ends = None if days is None else self.clock[0] + timedelta(days=days)
        terms = TokenTerms(
            "label", max_uses=max_uses, expires_at=ends, networks=networks, hostname_pattern=pattern
        )
        made = result_of(self.desk.create(terms, actor="ada"))
        secret = parse_token(made.token).secret
        return self._remember(Token(made.record.id, secret, max_uses, ends, networks, bool(pattern)))

    @rule(target=tokens, max_uses=none() | integers(1, 3), uses=integers(0, 3))
    def import_a_token_of_another_server(self, max_uses: int | None, uses: int) -> Token:
        secret = f"opaque {next(self.numbers)}"
        used = uses if max_uses is None else min(uses, max_uses)
        digest = parse_token(secret).digest.hex()
        record = result_of(
            self.desk.import_digest(digest, TokenTerms("old", max_uses=max_uses), actor="ada", uses=used)
        )
        return self._remember(Token(record.id, secret, max_uses, None, (), only_web=False, used_before=used))

    @rule(token=tokens)
    def import_a_token_that_is_here(self, token: Token) -> None:
        """Whatever is said about it the second time, nothing changes: the invariants see to that."""
        digest = parse_token(token.secret).digest.hex()
        with pytest.raises(TokenExistsError, match=token.id):
            result_of(self.desk.import_digest(digest, TokenTerms("again"), actor="bob"))

    @rule(target=hosts, kind=sampled_from(["web", "db"]), address=sampled_from(ADDRESSES))
    def install_host(self, kind: str, address: str) -> Host:
        return Host(f"{kind}-{next(self.numbers)}", address)

    @rule(target=hosts)
    def install_some_hosts(self) -> MultipleResults[Host]:
        return multiple(*(Host(f"web-{next(self.numbers)}", ADDRESSES[0]) for _ in range(4)))

    @rule(token=tokens, host=hosts)
    def register(self, token: Token, host: Host) -> None:
        key, refused = host.application("").key_id, None
        known_as, expected = self.holder.get(key), token.expected(host, self.clock[0])
        try:
            given = result_of(self.enrolment.register(host.application(token.secret)))
        except EnrolmentRefusedError as error:
            refused = error
        if known_as is not None:  # a retry, with this or another token, in whatever state
            assert refused is None
            assert (known_as[0], AgentStatus.PENDING) == (given.agent_id, given.status)
        elif expected is not None:
            assert refused is not None
            assert (expected, token.id) == (refused.reason, refused.token_id)
        else:
            assert refused is None
            token.admitted.append(key)
            self.holder[key] = given.agent_id, token

    @rule(host=hosts, secret=sampled_from(["", "tok_unknown", "opaque 0", "x" * 1000]))
    def register_with_no_token_of_ours(self, host: Host, secret: str) -> None:
        with pytest.raises(EnrolmentRefusedError) as refused:
            result_of(self.enrolment.register(host.application(secret)))
        reason = Refusal.TOKEN_UNKNOWN if secret else Refusal.TOKEN_MISSING
        assert (reason, None) == (refused.value.reason, refused.value.token_id)

    @rule(token=tokens, actor=sampled_from(["ada", "bob"]))
    def revoke(self, token: Token, actor: str) -> None:
        revoked = result_of(self.desk.revoke(token.id, actor=actor, reason="over"))
        assert revoked.already is (token.revoked_by is not None)
        token.revoked_by = token.revoked_by or actor

    @rule(host=hosts)
    def delete_the_agent(self, host: Host) -> None:
        """A use is not given back: who comes again needs another."""
        held = self.holder.pop(host.application("").key_id, None)
        if held is not None:
            result_of(self.agents.delete(held[0], actor="ada"))

    @rule(days=integers(1, 15))
    def wait(self, days: int) -> None:
        self.clock[0] += timedelta(days=days)

    def _remember(self, token: Token) -> Token:
        self.model.append(token)
        return token

    @invariant()
    def uses_are_those_that_were_let_in_and_never_more_than_may_be(self) -> None:
        for token in self.model:
            record = result_of(self.desk.find(token.id))
            assert token.uses == record.uses
            assert token.max_uses is None or record.uses <= token.max_uses

    @invariant()
    def a_token_is_in_the_state_that_its_history_says(self) -> None:
        for token in self.model:
            record = result_of(self.desk.find(token.id))
            assert (token.revoked_by or "") == record.revoked_by
            assert (token.revoked_by is not None) is (record.state(self.clock[0]) is TokenState.REVOKED)

    @invariant()
    def a_token_shows_whom_it_let_in_and_who_is_still_there(self) -> None:
        for token in self.model:
            shown = {agent.id for agent in result_of(self.desk.show(token.id)).admitted}
            assert {agent_id for agent_id, by in self.holder.values() if by is token} == shown

    @invariant()
    def the_list_has_every_token_youngest_first_and_no_secret(self) -> None:
        listed = result_of(self.desk.list())
        assert [token.id for token in reversed(self.model)] == [record.id for record in listed]
        assert not any(token.secret in repr(listed) for token in self.model)


TestTokenMachine = TokenMachine.TestCase
TestTokenMachine.settings = settings(max_examples=80, stateful_step_count=40)
