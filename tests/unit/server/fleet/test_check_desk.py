"""Which check an operator means, what they may say of it, and what they are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from contract.values import create_token, new_agent
from ct_ops_proto.checks import MASK, CheckConfigError
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.text_seal import TextSeal
from ct_ops_server.fleet.agents import AgentDesk, AgentNotFoundError
from ct_ops_server.fleet.check_model import MOST_CHECKS
from ct_ops_server.fleet.checks import (
    CheckAmbiguousError,
    CheckConflictError,
    CheckDesk,
    CheckNotFoundError,
    Definition,
)
from ct_ops_server.fleet.items import CheckResult, CheckStatus, Owned
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_checks import MemoryChecks
from fakes.memory_store import MemoryStore

PORT = Definition("port", {"host": "127.0.0.1", "port": "22"})
KEY_STORE = Definition("cert_file", {"file_path": "/a.p12", "format": "pkcs12", "password": "hunter2"})


class Office:
    """A desk on a store in memory with one agent."""

    def __init__(self, secret: bytes = b"x" * 32) -> None:
        self.agents = MemoryStore()
        self.store = MemoryChecks(self.agents)
        self.hints: list[str] = []
        self.desk = self.with_secret(secret)

    def with_secret(self, secret: bytes) -> CheckDesk:
        numbers = count(1)
        return CheckDesk(
            self.store,
            AgentDesk(self.agents, hint=self.hints.append),
            seal=TextSeal(SealingSecret(Path("/srv/secret"), secret)),
            hint=self.hints.append,
            new_id=lambda: f"check{next(numbers)}",
        )

    async def admit(self, agent_id: str = "a", status: AgentStatus = AgentStatus.ACTIVE) -> None:
        token = await create_token(self.agents, f"token of {agent_id}")
        await self.agents.admit(new_agent(agent_id, status=status, token_id=token), leaf=None)


@pytest.fixture
async def office() -> Office:
    office = Office()
    await office.admit()
    return office


async def test_a_check_is_called_after_what_it_looks_at_unless_it_has_a_name(office: Office) -> None:
    """The bus hears of each change."""
    named = [
        await office.desk.add("a", definition, actor="ada")
        for definition in (
            PORT,
            Definition("http", {"url": "https://h/"}),
            Definition("process", {"process_name": "sshd"}),
            Definition("certificate", {"host": "::1"}),
            KEY_STORE,
            Definition("port", {"host": "h", "port": 1}, name="the database"),
        )
    ]

    assert [
        "port 127.0.0.1:22",
        "http https://h/",
        "process sshd",
        "certificate ::1:443",
        "cert_file /a.p12",
        "the database",
    ] == [check.name for check in named]
    assert ["checks"] * len(named) == office.hints


async def test_everything_that_is_wrong_with_a_definition_is_said_at_once(office: Office) -> None:
    """Its name, its times and its configuration; and nothing is stored."""
    wrong = Definition(
        "port", {"hots": "h", "port": 70_000}, "a\x1b[2J", timedelta(seconds=5), timedelta(seconds=301)
    )
    with pytest.raises(CheckConfigError) as refused:
        await office.desk.add("a", wrong, actor="ada")

    assert {"name", "interval", "timeout", "hots", "host", "port"} == {
        each.key for each in refused.value.problems
    }
    assert str(refused.value).isprintable()
    assert [] == await office.desk.list()


@pytest.mark.parametrize(
    ("interval_s", "timeout_s", "wrong"),
    [
        (10, 10, set()),
        (3_600, 300, set()),
        (9, 0, {"interval"}),
        (3_601, 0, {"interval"}),
        (10.5, 0, {"interval"}),
        (10, 11, {"timeout"}),
        (3_600, 301, {"timeout"}),
        (60, -1, {"timeout"}),
    ],
)
async def test_intervals_and_timeouts_have_bounds(
    office: Office, interval_s: float, timeout_s: float, wrong: set[str]
) -> None:
    """Ten seconds to an hour, in whole seconds; a run ends before the next one is due."""
    times = timedelta(seconds=interval_s), timedelta(seconds=timeout_s)
    try:
        await office.desk.add("a", Definition("port", {"host": "h", "port": 1}, "", *times), actor="ada")
        found = set[str]()
    except CheckConfigError as error:
        found = {problem.key for problem in error.problems}

    assert wrong == found


async def test_a_secret_is_sealed_in_the_store_and_masked_when_shown(office: Office) -> None:
    """Nobody gets it back; what has no secret is stored as it is."""
    check = await office.desk.add("a", KEY_STORE, actor="ada")
    plain = await office.desk.add("a", PORT, actor="ada")

    assert "hunter2" not in check.config
    assert {"file_path": "/a.p12", "format": "pkcs12", "password": MASK} == office.desk.shown(check).config
    assert '{"host":"127.0.0.1","port":22}' == plain.config


async def test_a_check_that_was_sealed_with_another_secret_is_shown_with_what_to_do(office: Office) -> None:
    """The list of all checks does not fail for it."""
    check = await office.desk.add("a", KEY_STORE, actor="ada")
    shown = office.with_secret(b"y" * 32).shown(check)

    assert "INGEST_SECRET_FILE" in shown.config["unreadable"]


async def test_a_check_must_be_exactly_one(office: Office) -> None:
    """By id, prefix or name; two of a name need an id."""
    for _ in range(2):
        await office.desk.add("a", PORT, actor="ada")

    assert "check2" == (await office.desk.find("check2")).id
    with pytest.raises(CheckAmbiguousError, match=r"check1 .*check2 .*use an id"):
        await office.desk.find("port 127.0.0.1:22")
    with pytest.raises(CheckNotFoundError, match="check list"):
        await office.desk.find("nothing")


async def test_a_switch_says_whether_it_was_so_already(office: Office) -> None:
    """And what is gone cannot be switched."""
    check = await office.desk.add("a", PORT, actor="ada")
    switched = [await office.desk.switch(check.id, enabled=False, actor="bob") for _ in range(2)]
    removed = await office.desk.remove(check.id, actor="bob")

    assert [(False, False), (False, True)] == [(each.check.enabled, each.already) for each in switched]
    assert check.id == removed.id
    with pytest.raises(CheckNotFoundError):
        await office.desk.switch(check.id, enabled=True, actor="bob")
    with pytest.raises(CheckNotFoundError):
        await office.desk.remove(check.id, actor="bob")


async def test_an_agent_that_may_have_no_more_checks_is_named(office: Office) -> None:
    """Unknown, revoked, or full."""
    await office.admit("gone", AgentStatus.REVOKED)
    with pytest.raises(AgentNotFoundError):
        await office.desk.add("nobody", PORT, actor="ada")
    with pytest.raises(CheckConflictError, match=r"host-gone \(gone\) is revoked"):
        await office.desk.add("gone", PORT, actor="ada")
    for _ in range(MOST_CHECKS):
        await office.desk.add("a", PORT, actor="ada")
    with pytest.raises(CheckConflictError, match="200"):
        await office.desk.add("a", PORT, actor="ada")


async def test_results_are_those_of_a_check_or_of_an_agent(office: Office) -> None:
    """A check is looked for first."""
    first, second = [await office.desk.add("a", PORT, actor="ada") for _ in range(2)]
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    for check in (first, second):
        result = CheckResult(check.id, CheckStatus.PASS, "", 1, now_ms)
        await office.store.deliver([Owned("a", result)])

    async def ids(selector: str) -> list[str]:
        return [each.check_id for each in await office.desk.results(selector, newer_than=None, limit=10)]

    assert [first.id] == await ids(first.id)
    assert [first.id, second.id] == await ids("host-a")
    with pytest.raises(CheckAmbiguousError):
        await ids(first.name)
    with pytest.raises(AgentNotFoundError):
        await ids("nothing")
    assert [first.id, second.id] == [check.id for check in await office.desk.list("a")]


async def test_what_an_existing_agent_would_ignore_is_said(office: Office) -> None:
    """An operator who asks for fourteen days of warning learns that an old agent will not give them."""
    early = Definition("certificate", {"host": "h", "min_days_left": 14})
    checks = [await office.desk.add("a", definition, actor="ada") for definition in (PORT, early)]

    assert [(), ("min_days_left",)] == [office.desk.shown(check).existing_agents_ignore for check in checks]
