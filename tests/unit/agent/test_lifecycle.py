"""The reaction to each failure, with a clock that only waits on paper."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import Route
from ct_ops_agent.conversation_parts import Acknowledgement, StreamEvents
from ct_ops_agent.errors import (
    AgentError,
    ApprovalPendingError,
    ConfigError,
    CredentialRejectedError,
    DataDirectoryError,
    EnrolmentRefusedError,
    Refusal,
    UnreachableError,
)
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.lifecycle import Lifecycle
from ct_ops_agent.secret import Secret
from ct_ops_agent.vitals import Vitals

IDENTITY = Identity("agent-1", Secret("t"), KeyPair(bytes(32), bytes(32)), "leaf", "ca", 0)
ROUTE = Route(("server:1",), "roots")
LEARNT = replace(ROUTE, learnt=True)
NO = Refusal("PERMISSION_DENIED", "", "no")
UNREACHABLE = UnreachableError("away")
HANG_UP = UnreachableError("hung up", cut_off_in_handshake=True)
SPLIT_OFF = EnrolmentRefusedError("split off", replace(NO, reason="split_off"))
REJECTED = CredentialRejectedError("again", NO)
REFUSED = EnrolmentRefusedError("no", NO)
PENDING = ApprovalPendingError("wait", "agent-1")


class EndOfScriptError(Exception):
    """Nothing more is planned."""


@dataclass
class Stage:
    """Plays server and time: each step of the agent takes the next line of the script."""

    directory: Path
    script: list[AgentError | tuple[float, AgentError] | Identity]
    route: Route = ROUTE
    played: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    now: float = 1000.0
    key_is_doubtful: bool = False
    features: tuple[str, ...] = ()
    advice: str = ""
    watched: list[str] = field(default_factory=list)
    carried: list[Identity | None] = field(default_factory=list)
    """What was carried here, look by look."""

    def take_carried(self) -> Identity | None:
        return self.carried.pop(0) if self.carried else None

    def enrolling(self, route: Route) -> None:
        self.watched.append(f"enrolling at {route.addresses[0]}")

    def connecting(self, _route: Route, identity: Identity) -> None:
        self.watched.append(f"connecting as {identity.agent_id}")

    def acknowledged(self, _route: Route, identity: Identity, _news: Acknowledgement) -> None:
        self.watched.append(f"acknowledged as {identity.agent_id}")

    def failed(self, failure: AgentError, delay_s: float) -> None:
        self.watched.append(f"{failure}, {delay_s:.0f} s")

    async def find_route(self) -> Route:
        self.played.append("route")
        return self.route

    async def enrol(self, _route: Route) -> Identity:
        self.played.append("enrol")
        line = self._next()
        if isinstance(line, Identity):
            return line
        assert isinstance(line, AgentError)
        raise line

    async def separate(self, route: Route) -> Identity:
        identity = await self.enrol(route)
        self.played[-1] = "separate"
        return identity

    async def run(self, _route: Route, identity: Identity, events: StreamEvents) -> None:
        self.played.append(
            "stream" if identity.leaf_pem == IDENTITY.leaf_pem else f"stream with {identity.leaf_pem}"
        )
        line = self._next()
        if isinstance(line, tuple):
            events.acknowledged(Acknowledgement(self.features, None))
            self.now += line[0]
            line = line[1]
        if isinstance(line, Identity):
            events.renewed(line)
            return
        assert isinstance(line, AgentError)
        raise line

    async def once(self, _route: Route, _identity: Identity) -> Vitals:
        self.played.append("once")
        line = self._next()
        if isinstance(line, AgentError):
            raise line
        return Vitals(1.0, 2.0, 3.0, 4, (), ())

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def lifecycle(self, identity: Identity | None = IDENTITY) -> Lifecycle:
        return Lifecycle(
            identity=identity,
            find_route=self.find_route,
            enrolment=lambda: self,
            heartbeat=self,
            store=CredentialStore(self.directory),
            clock=Clock(wall=lambda: self.now, monotonic=lambda: self.now, sleep=self.sleep),
            random=lambda: 0.0,
            key_is_doubtful=lambda: self.key_is_doubtful,
            watcher=self,
            advice=self.advice,
            carried=self.take_carried,
        )

    async def play(self, identity: Identity | None = IDENTITY) -> "Stage":
        with pytest.raises(EndOfScriptError):
            await self.lifecycle(identity).run()
        return self

    def _next(self) -> AgentError | tuple[float, AgentError] | Identity:
        if not self.script:
            raise EndOfScriptError
        return self.script.pop(0)


async def test_an_enrolled_agent_goes_straight_to_its_stream(tmp_path: Path) -> None:
    """No registration is needed, today or after a failure."""
    stage = await Stage(tmp_path, [UNREACHABLE] * 3).play()

    assert ["route", "stream", "stream", "stream", "stream"] == stage.played
    assert [1, 2, 4] == stage.waits


async def test_a_new_agent_enrols_first(tmp_path: Path) -> None:
    """Route, identity, stream, in this order."""
    stage = await Stage(tmp_path, [IDENTITY]).play(identity=None)

    assert ["route", "enrol", "stream"] == stage.played


async def test_a_reply_that_is_carried_here_ends_the_waiting(tmp_path: Path) -> None:
    """With it comes the way to the server, so that is looked for again."""
    stage = await Stage(tmp_path, [UNREACHABLE], carried=[None, IDENTITY]).play(identity=None)

    assert ["route", "enrol", "route", "stream"] == stage.played


async def test_an_agent_with_an_identity_looks_for_no_reply(tmp_path: Path) -> None:
    """What somebody leaves in its directory does not replace it."""
    stage = await Stage(tmp_path, [UNREACHABLE], carried=[replace(IDENTITY, leaf_pem="other")]).play()

    assert ["route", "stream", "stream"] == stage.played


async def test_a_rejected_credential_leads_to_registration(tmp_path: Path) -> None:
    """And a server that contradicts itself is asked ever more slowly."""
    stage = await Stage(tmp_path, [REJECTED, IDENTITY, REJECTED, IDENTITY, REJECTED]).play()

    assert ["route", "stream", "enrol", "stream", "enrol", "stream", "enrol"] == stage.played
    assert [1, 2, 4] == stage.waits


async def test_a_pending_agent_asks_every_half_minute(tmp_path: Path) -> None:
    """Evenly: an operator's decision takes as long as it takes."""
    assert [30, 30, 30] == (await Stage(tmp_path, [PENDING] * 3).play(identity=None)).waits


async def test_a_refused_agent_waits_from_a_minute_to_a_quarter_of_an_hour(tmp_path: Path) -> None:
    """On Register as on the stream; it never ends by itself."""
    on_register = await Stage(tmp_path, [REFUSED] * 6).play(identity=None)
    on_stream = await Stage(tmp_path, [REFUSED] * 6).play()

    assert [60, 120, 240, 480, 900, 900] == on_register.waits == on_stream.waits
    assert "enrol" not in on_stream.played


async def test_a_copy_that_was_split_off_gets_an_identity_of_its_own(tmp_path: Path) -> None:
    """It makes a key of its own soon, not after the long wait of an agent that is refused."""
    stage = await Stage(tmp_path, [SPLIT_OFF, IDENTITY, UNREACHABLE]).play()

    assert ["route", "stream", "separate", "stream"] == stage.played[:4]
    assert 1 == stage.waits[0]


async def test_a_copy_whose_new_key_waits_for_approval_registers_with_that_key(tmp_path: Path) -> None:
    """It is a copy no more: only one key is made."""
    stage = await Stage(tmp_path, [SPLIT_OFF, PENDING, PENDING, IDENTITY, UNREACHABLE]).play()

    assert ["route", "stream", "enrol", "enrol", "enrol", "stream"] == stage.played[:6]


async def test_a_copy_that_is_refused_stays_one_and_waits(tmp_path: Path) -> None:
    """It asks ever more slowly, as every agent that is refused."""
    stage = await Stage(tmp_path, [SPLIT_OFF, REFUSED, REFUSED, IDENTITY, UNREACHABLE]).play()

    assert [1, 60, 120] == stage.waits[:3]
    assert "separate" in stage.played


@pytest.mark.parametrize(("lasted_s", "expected"), [(10.0, [1, 2, 1]), (9.0, [1, 2, 4])])
async def test_a_stable_stream_sets_the_waits_back(
    tmp_path: Path, lasted_s: float, expected: list[int]
) -> None:
    """Ten seconds after its first acknowledgement a stream counts as stable."""
    stage = await Stage(tmp_path, [UNREACHABLE, UNREACHABLE, (lasted_s, UNREACHABLE)]).play()

    assert expected == stage.waits


async def test_the_server_may_ask_for_a_longer_wait(tmp_path: Path) -> None:
    """Its wish is a lower bound for every kind of failure."""
    later = timedelta(seconds=500)
    stage = await Stage(
        tmp_path,
        [
            UnreachableError("busy", retry_after=later),
            EnrolmentRefusedError("no", replace(NO, retry_after=later)),
        ],
    ).play()

    assert [500, 500] == stage.waits


async def test_an_agent_that_is_sent_away_comes_back_within_the_time_that_it_was_told(tmp_path: Path) -> None:
    """By a share of its own of that time, and without it being a failure: the next wait is a first one."""
    stops = UnreachableError("stopping", reconnect_within=timedelta(seconds=8))
    stage = await Stage(tmp_path, [(100.0, stops), UNREACHABLE]).play()

    assert [0.0, 1] == stage.waits


async def test_attack_a_server_that_sends_everybody_away_at_once_is_not_knocked_at_without_end(
    tmp_path: Path,
) -> None:
    """Only a stream that served is worth hurrying back for."""
    stops = UnreachableError("stopping", reconnect_within=timedelta(milliseconds=1))
    stage = await Stage(tmp_path, [stops] * 3).play()

    assert [1, 2, 4] == stage.waits


async def test_three_hang_ups_lead_to_one_registration(tmp_path: Path) -> None:
    """The server may dislike the leaf; when Register fails too, the stream is tried again."""
    stage = await Stage(tmp_path, [HANG_UP, HANG_UP, HANG_UP, UNREACHABLE]).play()

    assert ["route", "stream", "stream", "stream", "enrol", "stream"] == stage.played


async def test_one_hang_up_is_enough_when_the_leaf_has_expired(tmp_path: Path) -> None:
    """Then it is known what the server dislikes."""
    stage = await Stage(tmp_path, [HANG_UP, IDENTITY]).play(replace(IDENTITY, leaf_not_after_unix=999))

    assert ["route", "stream", "enrol", "stream"] == stage.played


async def test_a_learnt_route_is_looked_for_again_until_it_has_served(tmp_path: Path) -> None:
    """First contact is repeated after a failure, and written down at the first success."""
    failing = await Stage(tmp_path, [UNREACHABLE, REFUSED], LEARNT).play(identity=None)
    serving = await Stage(tmp_path, [IDENTITY, UNREACHABLE], LEARNT).play(identity=None)

    assert ["route", "enrol"] * 3 == failing.played
    assert ["route", "enrol", "stream", "stream"] == serving.played
    assert ("server:1",) == CredentialStore(tmp_path).load(None).route.addresses


@pytest.mark.parametrize("fatal", [DataDirectoryError("full"), ConfigError([])])
async def test_what_waiting_cannot_heal_ends_the_agent(tmp_path: Path, fatal: AgentError) -> None:
    """A data directory that cannot be written, a configuration that contradicts itself."""
    with pytest.raises(type(fatal)):
        await Stage(tmp_path, [fatal]).lifecycle(None).run()


async def test_a_single_run_registers_again_once(tmp_path: Path) -> None:
    """A rejected credential is healed; rejected twice, it is told."""
    healed = Stage(tmp_path, [REJECTED, IDENTITY, IDENTITY])
    rejected = Stage(tmp_path, [REJECTED, IDENTITY, REJECTED])

    outcome = await healed.lifecycle().once()

    assert ["route", "once", "enrol", "once"] == healed.played
    assert (IDENTITY, False) == (outcome.identity, outcome.newly_enrolled)
    with pytest.raises(CredentialRejectedError):
        await rejected.lifecycle().once()


async def test_a_single_run_does_not_wait_for_a_server_that_is_away(tmp_path: Path) -> None:
    """Unreachable is told at once."""
    stage = Stage(tmp_path, [UNREACHABLE])

    with pytest.raises(UnreachableError):
        await stage.lifecycle().once()

    assert ([], ["route", "once"]) == (stage.waits, stage.played)


async def test_a_single_run_that_ends_pending_remembers_the_server(tmp_path: Path) -> None:
    """The next run finds it also when the token, which knew the way, is gone."""
    stage = Stage(tmp_path, [ApprovalPendingError("waiting", "agent-1")], LEARNT)

    with pytest.raises(ApprovalPendingError):
        await stage.lifecycle(None).once()

    assert ("server:1",) == CredentialStore(tmp_path).load(None).route.addresses


async def test_a_new_leaf_is_followed_by_a_new_stream_at_once(tmp_path: Path) -> None:
    """No wait, no Register, no new route: only another leaf."""
    stage = await Stage(tmp_path, [replace(IDENTITY, leaf_pem="new leaf"), UNREACHABLE]).play()

    assert ["route", "stream", "stream with new leaf"] == stage.played[:3]
    assert 1 == len(stage.waits)


async def test_after_a_lost_reply_to_a_rotation_register_tells_which_key_counts(tmp_path: Path) -> None:
    """Whatever the failure was."""
    stage = await Stage(tmp_path, [UNREACHABLE, IDENTITY, UNREACHABLE], key_is_doubtful=True).play()

    assert ["route", "stream", "enrol", "stream"] == stage.played[:4]


async def test_whoever_watches_is_told_every_change(tmp_path: Path) -> None:
    """In the order in which things happen, each failure with the wait that follows it."""
    stage = await Stage(tmp_path, [PENDING, IDENTITY, (1.0, UNREACHABLE)]).play(identity=None)

    expected = [
        "enrolling at server:1",
        "wait, 30 s",
        "enrolling at server:1",
        "connecting as agent-1",
        "acknowledged as agent-1",
        "away, 1 s",
        "connecting as agent-1",
    ]
    assert expected == stage.watched


@pytest.mark.parametrize(("features", "times"), [(("renewal",), 1), ((), 0)])
async def test_advice_is_given_once_and_only_where_it_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, features: tuple[str, ...], times: int
) -> None:
    """An existing server may ask for the enrolment token again: there it has to stay."""
    caplog.set_level("INFO")
    script: list[AgentError | tuple[float, AgentError] | Identity] = [(1.0, UNREACHABLE), (1.0, UNREACHABLE)]
    await Stage(tmp_path, script, features=features, advice="remove the token").play()

    assert times == caplog.text.count("remove the token")


@pytest.mark.parametrize("learnt", [False, True])
async def test_server_cas_that_were_learnt_are_on_the_disk_and_used_from_the_next_connection_on(
    tmp_path: Path, *, learnt: bool
) -> None:
    """Also those that came with the very first reply: then the way to the server is written down with them."""
    believed: list[str] = []

    class Learning(Stage):
        async def run(self, route: Route, identity: Identity, events: StreamEvents) -> None:
            believed.append(route.roots_pem)
            events.trusts("old and new")
            await super().run(route, identity, events)

    stage = Learning(tmp_path, [UNREACHABLE], route=replace(ROUTE, learnt=learnt))
    await stage.play()

    stored = CredentialStore(tmp_path).load(None).route
    assert ["roots", "old and new"] == believed
    assert "old and new" == stored.trust_bundle_pem
    assert (ROUTE.addresses if learnt else ()) == stored.addresses
