"""``[collectors]``: which collectors run, how often, and with which keys of their own.

::

    [collectors]
    allowed = ["raid"]             # plug-ins that may be loaded

    [collectors.processes]
    interval = "2m"                # every collector: enabled, interval, timeout; then its own keys
    top = 5

    [[collectors.exec]]            # any program, see `foreign.exec_program`
    name = "backup"
    command = ["/usr/local/lib/backup-state"]

Every mistake is a problem of its own, by its dotted key; keys that do not exist are named with the nearest
one that does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import msgspec

from ct_ops_agent.catalog import Catalog, CatalogError, runs_here
from ct_ops_agent.collector import AnyCollector, Settings
from ct_ops_agent.collectors import BUILT_IN
from ct_ops_agent.config.durations import parse_duration
from ct_ops_agent.config.parse import parse_boolean
from ct_ops_agent.config.problems import ProblemList, unknown_key_text
from ct_ops_agent.gathering.course import Plan

SECTION = "collectors"
COMMON_KEYS = ("enabled", "interval", "timeout")
_SHORTEST_INTERVAL = timedelta(seconds=1)
_LONGEST_INTERVAL = timedelta(days=7)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


@dataclass(frozen=True)
class CollectorConfig:
    """What is to be gathered on this host."""

    plans: tuple[Plan, ...] = ()
    off: tuple[Plan, ...] = ()
    """Those that the file describes and turns off: they can be run by hand."""

    settings: Mapping[str, Settings] = field(default_factory=dict)
    """By collector, its own keys as they are in effect."""

    allowed: tuple[str, ...] = ()


def read_collectors(
    document: Mapping[str, object], problems: ProblemList, *, catalog_of: Callable[..., Catalog] = Catalog
) -> CollectorConfig:
    """Read the table, whole.

    Args:
        document: the configuration file.
        problems: where mistakes go.
        catalog_of: makes the catalogue, given the plug-ins that are allowed.
    """
    table = document.get(SECTION, {})
    if not isinstance(table, dict):
        return CollectorConfig()  # said elsewhere: no table
    allowed = _read_allowed(table, problems)
    catalog = catalog_of(allowed)
    _report_unknown(table, catalog, problems)
    reader = _Reader(catalog, problems)
    for name in catalog.names:
        reader.read(name, table.get(name, {}))
    reader.read_programs(table.get("exec", []))
    return CollectorConfig(tuple(reader.plans), tuple(reader.off), reader.settings, allowed)


class _Reader:
    """Reads one collector after the other."""

    def __init__(self, catalog: Catalog, problems: ProblemList) -> None:
        self._catalog = catalog
        self._problems = problems
        self.plans: list[Plan] = []
        self.off: list[Plan] = []
        self.settings: dict[str, Settings] = {}

    def read(self, name: str, table: object) -> None:
        """Read ``[collectors.NAME]``, or what holds without it."""
        path = f"{SECTION}.{name}"
        if not isinstance(table, dict):
            self._problems.add(path, f"this is a table; write [{path}] on a line of its own")
            return
        enabled = self._enabled(path, table, default=self._catalog.is_on_by_default(name))
        if not enabled and not table:
            return  # nothing to check, so its module is not even imported
        try:
            kind = self._catalog.load(name)
        except CatalogError as error:
            self._problems.add(path, str(error))
            return
        own = {key: value for key, value in table.items() if key not in COMMON_KEYS}
        settings = self._settings(path, kind.settings_type, own)
        about = kind.about
        interval = self._duration(path, table, "interval", about.interval)
        timeout = self._duration(path, table, "timeout", about.timeout)
        if settings is not None and runs_here(about):
            plan = _plan(name, partial(kind, settings), interval, timeout)
            (self.plans if enabled else self.off).append(plan)
            self.settings[name] = settings

    def read_programs(self, tables: object) -> None:
        """Read every ``[[collectors.exec]]``."""
        if not isinstance(tables, list):
            self._problems.add(
                f"{SECTION}.exec", f"write [[{SECTION}.exec]], with two brackets, for each program"
            )
            return
        for number, table in enumerate(tables, start=1):
            self._read_program(f"{SECTION}.exec[{number}]", table)

    def _read_program(self, path: str, table: object) -> None:
        from ct_ops_agent.foreign.exec_program import ExecProgram, ExecSettings  # noqa: PLC0415  for who uses it

        if not isinstance(table, dict):
            self._problems.add(path, f"write [[{SECTION}.exec]], with two brackets, for each program")
            return
        name = table.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._problems.add(
                f"{path}.name", "give it a name: a lower-case word, which its samples begin with"
            )
            return
        if name in self._catalog.names or any(plan.name == name for plan in self.plans):
            self._problems.add(f"{path}.name", f"another collector is called {name}; choose another name")
            return
        if not self._enabled(path, table, default=True):
            return
        own = {key: value for key, value in table.items() if key not in {*COMMON_KEYS, "name"}}
        settings = self._settings(path, ExecSettings, own)
        interval = self._duration(path, table, "interval", ExecProgram.about.interval)
        timeout = self._duration(path, table, "timeout", ExecProgram.about.timeout)
        if settings is not None:
            assert isinstance(settings, ExecSettings)
            if not settings.command:
                self._problems.add(
                    f"{path}.command", 'say what to run: command = ["/path/of/program", "argument"]'
                )
                return
            make = partial(ExecProgram, settings, name=name, timeout_s=timeout.total_seconds())
            # Two more seconds: time to kill it and say so.
            self.plans.append(_plan(name, make, interval, timeout + timedelta(seconds=2)))
            self.settings[name] = settings

    def _enabled(self, path: str, table: Mapping[str, object], *, default: bool) -> bool:
        if "enabled" not in table:
            # Whoever writes a table about a collector wants it to run.
            return default or bool(table)
        try:
            return parse_boolean(table["enabled"])
        except ValueError as error:
            self._problems.add(f"{path}.enabled", str(error))
            return False

    def _duration(self, path: str, table: Mapping[str, object], key: str, default: timedelta) -> timedelta:
        if key not in table:
            return default
        try:
            return parse_duration(table[key], shortest=_SHORTEST_INTERVAL, longest=_LONGEST_INTERVAL)
        except ValueError as error:
            self._problems.add(f"{path}.{key}", str(error))
            return default

    def _settings(self, path: str, kind: type[Settings], table: Mapping[str, object]) -> Settings | None:
        """Read each key by itself, so that each mistake is told."""
        fields = {found.name: found for found in msgspec.structs.fields(kind)}
        known = [f"{path}.{name}" for name in (*COMMON_KEYS, *fields)]
        values: dict[str, object] = {}
        faults = 0
        for key, value in table.items():
            if key not in fields:
                self._problems.add(f"{path}.{key}", unknown_key_text(f"{path}.{key}", known))
                faults += 1
                continue
            try:
                values[key] = msgspec.convert(value, fields[key].type)
            except msgspec.ValidationError as error:
                self._problems.add(f"{path}.{key}", str(error))
                faults += 1
        return None if faults else kind(**values)


def _plan(name: str, make: Callable[[], AnyCollector], interval: timedelta, timeout: timedelta) -> Plan:
    return Plan(name, make, interval.total_seconds(), timeout.total_seconds())


def _read_allowed(table: Mapping[str, object], problems: ProblemList) -> tuple[str, ...]:
    allowed = table.get("allowed", [])
    if isinstance(allowed, list) and all(isinstance(name, str) for name in allowed):
        for name in set(allowed) & set(BUILT_IN):
            problems.add(f"{SECTION}.allowed", f"{name} is built in and needs no permission; remove it here")
        return tuple(name for name in allowed if name not in BUILT_IN)
    problems.add(f"{SECTION}.allowed", 'write a list of names, for example ["raid"]')
    return ()


def _report_unknown(table: Mapping[str, object], catalog: Catalog, problems: ProblemList) -> None:
    known = {*catalog.names, "allowed", "exec"}
    for name in table:
        if name not in known:
            text = unknown_key_text(f"{SECTION}.{name}", [f"{SECTION}.{each}" for each in sorted(known)])
            problems.add(
                f"{SECTION}.{name}", f"{text}; a plug-in's name belongs into {SECTION}.allowed first"
            )
