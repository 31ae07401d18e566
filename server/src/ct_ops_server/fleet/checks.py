"""What operators do with checks: define, look up, enable, disable, remove, read results.

A check is named by its id, a unique prefix of it, or a unique name. What it is told is validated as a whole
by `ct_ops_proto.checks`, and sealed where it holds a secret; nobody is ever shown the secret again. Errors:

    CheckError
    ├── CheckNotFoundError    nothing matches
    ├── CheckAmbiguousError   more than one does; carries them
    └── CheckConflictError    the agent may not have it, or not yet another one

and ``CheckConfigError`` for a definition that cannot be meant, with everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ct_ops_proto.checks import (
    AnyCheckConfig,
    CheckConfigError,
    ConfigProblem,
    check_config,
    config_json,
    has_secrets,
    ignored_by_existing_agents,
    masked,
    parse_check_config,
)
from ct_ops_server.authority.text_seal import SealError, TextSeal
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.check_delivery import TOPIC
from ct_ops_server.fleet.check_model import (
    DEFAULT_INTERVAL,
    LONGEST_INTERVAL,
    LONGEST_TIMEOUT,
    SHORTEST_INTERVAL,
    Check,
    CheckLimitError,
    CheckOwnerMissingError,
    NewCheck,
    StoredResult,
)
from ct_ops_server.fleet.check_ports import CheckStore

_NAME_CHARS = 100
_SECOND = timedelta(seconds=1)


class CheckError(Exception):
    """A request about a check that cannot be done. ``str()`` is a sentence for the operator."""


class CheckNotFoundError(CheckError):
    """Nothing matches the selector."""

    def __init__(self, selector: str) -> None:
        super().__init__(
            f"no check has the id, id prefix or name {selector!r}; see: ct-ops-server check list"
        )


class CheckAmbiguousError(CheckError):
    """The selector names more than one check."""

    def __init__(self, selector: str, candidates: Sequence[Check]) -> None:
        names = ", ".join(f"{check.id} ({check.name} on {check.hostname})" for check in candidates[:5])
        super().__init__(f"{selector!r} names more than one check: {names}; use an id")
        self.candidates = tuple(candidates)


class CheckConflictError(CheckError):
    """The agent may not have this check."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A check as an operator says it, not validated yet."""

    type: str
    config: Mapping[str, Any]
    name: str = ""
    """Empty: named after what it looks at."""
    interval: timedelta = DEFAULT_INTERVAL
    timeout: timedelta = timedelta()
    """Nothing: the default of its type."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a check is told, for the eyes of people."""

    config: Mapping[str, Any]
    existing_agents_ignore: tuple[str, ...] = ()
    """Keys that are set and have no effect on an existing agent."""


@dataclass(frozen=True, slots=True)
class Switched:
    """A check that is enabled or disabled now, and whether it had been so before."""

    check: Check
    already: bool


class CheckDesk:
    """Where operators define checks and see what came of them."""

    def __init__(
        self,
        store: CheckStore,
        agents: AgentDesk,
        *,
        seal: TextSeal,
        hint: Callable[[str], None],
        new_id: Callable[[], str],
    ) -> None:
        """Prepare the desk; ``hint`` tells the push bus of this process what was changed."""
        self._store = store
        self._agents = agents
        self._seal = seal
        self._hint = hint
        self._new_id = new_id

    async def add(self, agent_selector: str, definition: Definition, *, actor: str) -> Check:
        """Have an agent run a check from now on.

        Raises:
            AgentError: the agent is not exactly one.
            CheckConfigError: the definition cannot be meant.
            CheckConflictError: the agent was revoked, or has as many checks as it may have.
        """
        config = validated(definition)
        agent = await self._agents.find(agent_selector)
        check_id = self._new_id()
        text = config_json(config)
        new = NewCheck(
            id=check_id,
            agent_id=agent.id,
            name=definition.name or default_name(definition.type, config),
            type=definition.type,
            config=self._seal.seal(text, bound_to=check_id) if has_secrets(config) else text,
            interval=definition.interval,
            timeout=definition.timeout,
        )
        try:
            added = await self._store.add_check(new, actor=actor)
        except CheckLimitError as error:
            raise CheckConflictError(str(error)) from error
        except CheckOwnerMissingError as error:
            raise CheckConflictError(f"{agent.hostname} ({agent.id}) is revoked or deleted") from error
        self._hint(TOPIC)
        return added

    async def list(self, agent_selector: str | None = None) -> Sequence[Check]:
        """Return the checks of one agent or of all, by hostname and name."""
        agent_id = None if agent_selector is None else (await self._agents.find(agent_selector)).id
        return await self._store.list_checks(agent_id=agent_id)

    async def find(self, selector: str) -> Check:
        """Return the one check that is meant.

        Raises:
            CheckNotFoundError, CheckAmbiguousError: it is not exactly one.
        """
        found = await self._store.find_checks(selector)
        if not found:
            raise CheckNotFoundError(selector)
        if len(found) > 1:
            raise CheckAmbiguousError(selector, found)
        return found[0]

    def shown(self, check: Check) -> Shown:
        """Return what a check is told, fit to be shown: its secrets are masked."""
        try:
            text = self._seal.open(check.config, bound_to=check.id)
            config = parse_check_config(check.type, text, ignore_unknown=True)
        except (SealError, CheckConfigError) as error:
            return Shown({"unreadable": str(error)})
        return Shown(masked(config), ignored_by_existing_agents(config))

    async def switch(self, selector: str, *, enabled: bool, actor: str) -> Switched:
        """Enable or disable a check."""
        check = await self.find(selector)
        changed = await self._store.set_enabled(check.id, enabled=enabled, actor=actor)
        if changed is None:
            raise CheckNotFoundError(selector)
        self._hint(TOPIC)
        return Switched(await self.find(check.id), already=not changed)

    async def remove(self, selector: str, *, actor: str) -> Check:
        """Remove a check with its results; return it as it was."""
        check = await self.find(selector)
        if not await self._store.remove_check(check.id, actor=actor):
            raise CheckNotFoundError(selector)
        self._hint(TOPIC)
        return check

    async def results(
        self, selector: str, *, newer_than: timedelta | None, limit: int
    ) -> Sequence[StoredResult]:
        """Return results of a check, or of all checks of an agent, newest run first."""
        if await self._store.find_checks(selector):
            check = await self.find(selector)
            return await self._store.check_results(check_id=check.id, newer_than=newer_than, limit=limit)
        agent = await self._agents.find(selector)
        return await self._store.check_results(agent_id=agent.id, newer_than=newer_than, limit=limit)


def validated(definition: Definition) -> AnyCheckConfig:
    """Return what the check is told.

    Raises:
        CheckConfigError: with everything that is wrong, also about its name and its times.
    """
    problems = list(_problems(definition))
    try:
        config = check_config(definition.type, definition.config)
    except CheckConfigError as error:
        raise CheckConfigError([*problems, *error.problems]) from None
    if problems:
        raise CheckConfigError(problems)
    return config


def _problems(definition: Definition) -> Sequence[ConfigProblem]:
    wrong: dict[str, str] = {}
    if len(definition.name) > _NAME_CHARS or not definition.name.isprintable():
        wrong["name"] = f"must be at most {_NAME_CHARS} characters, none of them a control character"
    if not SHORTEST_INTERVAL <= definition.interval <= LONGEST_INTERVAL or definition.interval % _SECOND:
        wrong["interval"] = "must be whole seconds, from 10s to 3600s"
    elif definition.timeout > definition.interval:
        wrong["timeout"] = "must not be longer than the interval"
    if not timedelta() <= definition.timeout <= LONGEST_TIMEOUT:
        wrong["timeout"] = "must be at most 300s"
    return [ConfigProblem(key, text) for key, text in wrong.items()]


def default_name(check_type: str, config: AnyCheckConfig) -> str:
    """Return a name that says what the check looks at: ``port 127.0.0.1:22``."""
    shown = masked(config)
    first = next(key for key in ("url", "process_name", "file_path", "host") if key in shown)
    port = f":{getattr(config, 'port', '')}" if first == "host" else ""
    return f"{check_type} {shown[first]}{port}"[:_NAME_CHARS]
