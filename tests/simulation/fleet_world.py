"""A simulated fleet: hosts, their server, operators who keep an eye on both, and those who should not be there.

What happens is in `fleet_events`; what must never happen in `fleet_ledger`; what must hold at the end is `judge`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.identity.credentials import AGENT_CA_NAME
from ct_ops_proto.enrolment_token import parse_token, secret_digest
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.authority.life_cycle import Kind
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.server_ca_desk import Step as ServerCaStep
from own_authority import OwnCa
from simulation.fleet_authorities import go_on_with_authorities
from simulation.fleet_clones import Splits, decide_about_copies, let_copies_speak, recall_copies
from simulation.fleet_existing import CUT_OFF, ExistingHost
from simulation.fleet_host import DAY_S, Directory, Host
from simulation.fleet_ledger import OPERATOR, Ledger, thing_of
from simulation.fleet_network import Network
from simulation.fleet_server import START, Installation

ROUND_DAYS = 5.0
CALM_DAYS = 40.0
_CALM_ROUND_DAYS = 2.0
_FLEETS_WITH_EXISTING = 0.35
_NEEDS_TOKEN = frozenset(
    {
        "token_missing",
        "token_unknown",
        "token_expired",
        "token_exhausted",
        "token_revoked",
        "token_network",
        "token_hostname",
        "pin_mismatch",
    }
)
"""Complaints that an operator answers with another enrolment token."""
_NEEDS_ANOTHER_KEY = frozenset({"key_replaced", "revoked"})
"""Complaints of a data directory that went back to a key which is over: the host is installed anew."""


@dataclass(frozen=True)
class Size:
    """How much of a world there is."""

    hosts: int
    days: float
    interval_days: float
    events: int


@dataclass
class Token:
    """An enrolment token, as whoever holds it has it."""

    id: str
    text: str
    digest: bytes


@dataclass
class World:
    """Everything there is."""

    seed: int
    size: Size
    folder: Path
    outbox_days: float = 400.0
    ledger: Ledger = field(default_factory=Ledger)
    network: Network = field(default_factory=Network)
    hosts: list[Host] = field(default_factory=list)
    intruders: list[Host] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    directories: list[tuple[Host, Directory]] = field(default_factory=list)
    excuses: Counter[str] = field(default_factory=Counter)
    """How often a host may have got another identity, by its name."""
    things: dict[str, int] = field(default_factory=dict)
    """When things were measured, by the clock of their host."""
    rotating: dict[Kind, bool] = field(default_factory=dict)
    """What is being rotated, and whether the old one is retired whoever still needs it."""
    must_hurry: bool = False
    """Agents are made to renew by the agent CA that signs, before the old one is retired."""
    named: int | None = None
    """Which agent CA of the operators' own the settings name."""
    brought: OwnCa | None = None
    """An agent CA of the operators' own, which the next rotation is to bring."""
    server_ca_steps: list[ServerCaStep] = field(default_factory=list)
    """What is still to be done about the server's CA."""
    uninvited: set[str] = field(default_factory=set)
    """Hosts that were to get a token while the server was down."""
    splits: Splits = field(default_factory=Splits)
    start_failed: bool = False
    """The server did not start, and said why."""
    is_calm: bool = False
    """Nothing happens any more."""
    jumped: set[str] = field(default_factory=set)
    """Hosts whose clock was wrong, by name."""
    went_back: set[str] = field(default_factory=set)
    """Hosts whose disks were restored, by name."""
    copied: set[str] = field(default_factory=set)
    """Hosts that were copied, by name: their copies may have told the server that its next CA is believed."""
    has_gone_back: bool = False
    """Somebody's disk was restored: the same may have been stored twice."""

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.seed} world")
        self.has_existing = random.Random(f"{self.seed} existing").random() < _FLEETS_WITH_EXISTING
        self._numbers = itertools.count(1)
        self.ledger.holders = self._holders
        self.installation = Installation(self.folder, self.network, self.ledger, self.seed)

    # ---- time

    def now_s(self) -> float:
        """Return the seconds since the beginning."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Return the true time."""
        return START.timestamp() + self.now_s()

    async def until(self, day: float) -> None:
        """Let it be that day."""
        await asyncio.sleep(max(0.0, day * DAY_S - self.now_s()))

    # ---- things

    def number(self) -> int:
        """Return a number that was not before."""
        return next(self._numbers)

    def new_thing(self, at_ms: int, dice: random.Random) -> str:
        """Return what has not been measured before."""
        kind = "sim.n" if dice.random() < 0.7 else "check."
        thing = f"{kind}{self.number()}"
        self.things[thing] = at_ms
        return thing

    def _holders(self, key_id: str) -> list[str]:
        return [host.name for host in (*self.hosts, *self.intruders) if host.key_id() == key_id]

    def honest(self) -> list[Host]:
        """Return the hosts that somebody still expects."""
        return [host for host in self.hosts if host.ended is None]

    # ---- operators

    async def create_token(self, terms: TokenTerms) -> Token | None:
        """Have the operator make a token; None while the server is down."""
        serving = self.network.serving
        if serving is None:
            return None
        made = await serving.tokens.create(terms, actor=OPERATOR)
        digest = secret_digest(parse_token(made.token).secret)
        token = Token(made.record.id, made.token, digest)
        self.tokens.append(token)
        return token

    async def invite(self, host: Host, terms: TokenTerms | None = None) -> None:
        """Give a host a token, and start its agent anew."""
        days = timedelta(days=60)
        terms = terms or TokenTerms(
            host.name, auto_approve=True, max_uses=1, expires_at=self.installation.now() + days
        )
        token = await self.create_token(terms)
        if token is None:
            self.uninvited.add(host.name)
            return
        self.uninvited.discard(host.name)
        host.token = parse_token(token.text)
        await host.restart()

    async def revoke(self, agent_id: str, *, reject: bool = False) -> None:
        """End an agent for good."""
        serving = self.network.serving
        assert serving is not None
        decide = serving.agents.reject if reject else serving.agents.revoke
        await decide(agent_id, actor=OPERATOR, reason="simulated")
        self.ledger.barred[agent_id] = "revoked"

    async def approve(self, agent_id: str, reason: str) -> None:
        """Serve an agent again."""
        serving = self.network.serving
        assert serving is not None
        await serving.agents.approve(agent_id, actor=OPERATOR, reason=reason)

    async def delete(self, agent_id: str) -> None:
        """Forget an agent."""
        serving = self.network.serving
        assert serving is not None
        await serving.agents.delete(agent_id, actor=OPERATOR, reason="simulated")
        self.ledger.barred[agent_id] = "deleted"

    async def revoke_token(self, token: Token) -> None:
        """End an enrolment token."""
        serving = self.network.serving
        assert serving is not None
        if await self.installation.store.find_token(token.digest) is None:
            return  # a server that was restored has never heard of it
        await serving.tokens.revoke(token.id, actor=OPERATOR, reason="simulated")
        self.ledger.tokens[token.id].is_revoked = True

    async def active_id(self, host: Host) -> str | None:
        """Return which active agent a host is now, as operators see it."""
        serving = self.network.serving
        if serving is None:
            return None
        for agent in await serving.agents.list(AgentStatus.ACTIVE):
            if self.ledger.owner.get(agent.id) == host.name and agent.key_id == host.key_id():
                return agent.id
        return None

    def back_up(self) -> None:
        """Keep a backup of the server, and what it knows of tokens."""
        self.installation.back_up()

    async def restore(self, dice: random.Random) -> None:
        """Take the server back to one of its backups; what operators ended meanwhile stays ended."""
        backups = self.installation.backups
        serving = self.network.serving
        if not backups or serving is None:
            return
        self.has_gone_back = True
        number = dice.randrange(len(backups))
        serving.crash()
        await asyncio.sleep(dice.uniform(0, 2) * DAY_S)
        if self.network.serving is not None:
            return
        self.installation.restore(backups[number])
        del backups[number + 1 :]
        self.ledger.went_back()
        recall_copies(self)
        await self.start_server()

    async def start_server(self) -> None:
        """Start the server, unless it runs; an operator tries again later where its log says that its clock is wrong."""
        if self.network.serving is not None:
            return
        try:
            await self.installation.start()
        except AuthorityError:  # the agent CA that the settings name is of another time than the clock
            self.start_failed = True
        else:
            self.start_failed = False

    async def make_rounds(self) -> None:
        """Look after the server, decide about who waits, and help hosts that complain."""
        if self.start_failed:
            await self.start_server()
        serving = self.network.serving
        if serving is None:
            return
        await serving.look_after()
        await go_on_with_authorities(self)
        await self._decide()
        await let_copies_speak(self)
        await decide_about_copies(self)
        for host in self.honest():
            await self._help(host)
        await self.ledger.settle()

    async def _decide(self) -> None:
        """Approve those whose key an operator finds on a host of ours, reject the others."""
        serving = self.network.serving
        assert serving is not None
        waiting = await serving.agents.list(AgentStatus.PENDING)
        ours = {host.key_id() for host in self.honest()} if waiting else set()
        for agent in waiting:
            if agent.key_id in ours:
                await serving.agents.approve(agent.id, actor=OPERATOR)
            else:
                await self.revoke(agent.id, reject=True)

    async def _help(self, host: Host) -> None:
        """Do what the sentence that the agent logs tells an operator to do."""
        if host.name in self.uninvited:
            await self.invite(host)
        elif host.process is None:
            return
        elif host.complaint in _NEEDS_TOKEN:
            self.excuses[host.name] += await self._is_a_stranger(host)
            await self.invite(host)
        elif host.complaint in self._needs_another_key(host) or (
            host.complaint == "untrusted_server" and host.name in self.went_back | self.copied
        ):
            await self.reinstall(host)
        elif host.complaint == CUT_OFF and isinstance(host, ExistingHost) and self.has_gone_back:
            await self._recognise_authority_of(host)

    async def _recognise_authority_of(self, host: Host) -> None:
        """Show a restored server the agent CA of a host whose leaf it cannot place: an existing agent has no other way."""
        serving, file = self.network.serving, host.folder / AGENT_CA_NAME
        assert serving is not None
        if file.exists():
            await serving.authority.recognise(file.read_text(), actor=OPERATOR)
            await serving.trust_watch.catch_up()

    @staticmethod
    def _needs_another_key(host: Host) -> frozenset[str]:
        """Return the complaints that end with a reinstallation: an existing agent makes no key by itself."""
        return _NEEDS_ANOTHER_KEY | ({"split_off"} if isinstance(host, ExistingHost) else set())

    async def _is_a_stranger(self, host: Host) -> bool:
        """Tell whether the server has nothing to know a host by: neither its key, nor a leaf of its own."""
        serving, key_id = self.network.serving, host.key_id()
        assert serving is not None
        if key_id is not None and await self.installation.store.find_agent(key_id) is not None:
            return False
        return not isinstance(serving.identify(host.leaf_der()), LeafOfAgent)

    async def reinstall(self, host: Host) -> None:
        """Begin anew on a host; its former agents are deleted."""
        serving = self.network.serving
        if serving is None:
            return
        self.excuses[host.name] += 1
        for agent in await serving.agents.list():
            if self.ledger.owner.get(agent.id) == host.name:
                await self.delete(agent.id)
        await host.wipe()
        await self.invite(host)

    async def run_rounds(self) -> None:
        """Make rounds until it is calm."""
        while not self.is_calm:
            await asyncio.sleep(ROUND_DAYS * DAY_S)
            await self.make_rounds()

    # ---- the end

    async def calm_down(self) -> None:
        """Let nothing go wrong any more, and time pass."""
        self.installation.clock_is_off = timedelta(0)
        await self.start_server()
        for host in self.honest():
            host.clock_is_off_s, host.place.is_cut_off, host.place.bad = 0.0, False, 0.0
            if host.process is None and host.name not in self.uninvited:
                host.start()
        for _ in range(int((CALM_DAYS + 3 * self.size.interval_days) / _CALM_ROUND_DAYS)):
            await asyncio.sleep(_CALM_ROUND_DAYS * DAY_S)
            await self.make_rounds()

    async def end(self) -> None:
        """Stop everything that was started."""
        for host in (*self.hosts, *self.intruders):
            await host.stop()
        if self.network.serving is not None:
            await self.network.serving.stop()
        self.installation.chain.close()
        await self.ledger.settle()

    def judge(self) -> None:
        """Write down what does not hold at the end."""
        self.ledger.violations += [*self.network.faults, *self.installation.chain.defects()]
        self._judge_copies()
        for host in self.honest():
            self._judge_identity(host)
            self._judge_losses(host)
        if not self.has_gone_back:
            for (agent_id, thing), count in self.ledger.writes.items():
                if count > 1:
                    self.ledger.violated(f"{thing} of {agent_id} was stored {count} times")

    def _judge_copies(self) -> None:
        for copy, owner in self.ledger.copies.items():
            last = [self.ledger.heard.get(who, ("", 0.0)) for who in (copy, owner)]
            ids, times = {agent_id for agent_id, _ in last}, [at_s for _, at_s in last]
            if len(ids) == 1 and min(times) > self.now_s() - 3 * self.size.interval_days * DAY_S:
                self.ledger.violated(f"{copy} and {owner} are both {ids.pop()}, and nobody has noticed")

    def _judge_identity(self, host: Host) -> None:
        _, heard_s = self.ledger.heard.get(host.name, ("", float("-inf")))
        silent_days = (self.now_s() - heard_s) / DAY_S
        if silent_days > 2.5 * self.size.interval_days + 4:
            state = host.complaint or "nothing is wrong, it says"
            self.ledger.violated(f"{host.name} is outside: not heard for {silent_days:.1f} days ({state})")
        names = self.ledger.names[host.name]
        if len(names) - 1 > self.excuses[host.name]:
            self.ledger.violated(f"{host.name} was {', then '.join(names)}: that is not its own identity")

    def _judge_losses(self, host: Host) -> None:
        ids = [agent_id for agent_id, who in self.ledger.owner.items() if who == host.name]
        stored = self._stored({*ids, *self.ledger.names[host.name]})
        missing = {thing for thing in host.known - stored if self._is_expected(thing, host)}
        if not missing:
            return
        gaps = [gap for agent_id in ids for gap in self.installation.deliveries.state.gaps.get(agent_id, {})]
        for type_ in ("sample", "check_result"):
            lost = [thing for thing in missing if thing.startswith("sim.") == (type_ == "sample")]
            said = [gap for gap in gaps if gap.type == type_]
            refused = sum(
                each.count
                for (agent_id, kind, _), each in self.installation.deliveries.state.refused.items()
                if agent_id in ids and kind in {type_, "check"}
            )
            if self.installation.restores:  # it may have forgotten what it refused; the agent's log has it
                refused = max(refused, sum(self.ledger.refused[agent_id] for agent_id in ids))
            silent = [
                thing
                for thing in lost
                if host.name not in self.jumped  # a gap of times that cannot be is bent to those that can
                and not any(gap.from_ms <= self.things[thing] <= gap.to_ms for gap in said)
            ]
            if len(silent) > refused or len(lost) > refused + sum(gap.count for gap in said):
                some = ", ".join(sorted(silent or lost)[:5])
                self.ledger.violated(f"{host.name} lost {len(lost)} items of {type_} in silence: {some}")

    def _is_expected(self, thing: str, host: Host) -> bool:
        """Tell whether a host can know that the server has not got this.

        What it delivered as another agent, whom the server forgot, is that agent's: to the outbox another id is another
        server.
        """
        stored_as, names = self.ledger.stored_as[thing], self.ledger.names[host.name]
        return not stored_as or names[-1:] == [] or names[-1] in stored_as

    def _stored(self, ids: set[str]) -> set[str]:
        deliveries = self.installation.deliveries
        return {thing_of(item) for owner, item in deliveries.state.items.values() if owner in ids}
