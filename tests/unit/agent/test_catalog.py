"""From a name to a collector's class: what is built in, and plug-ins where they are allowed."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from ct_ops_agent.catalog import GROUP, Catalog, CatalogError, contract_fault
from ct_ops_agent.collector import About, Collector, Settings
from unit.agent.gathering.world import Probe


def point(name: str, value: str = "") -> EntryPoint:
    return EntryPoint(name, value or f"{__name__}_plugin:Plugin", GROUP)


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that an entry point names."""
    module = ModuleType(f"{__name__}_plugin")
    module.Plugin = Probe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_plug_in_is_loaded_only_where_it_is_allowed(plug_in: ModuleType) -> None:
    """An installed package alone must not join a daemon that sees the whole host."""
    installed = [point("probe")]

    assert Probe is Catalog(["probe"], installed=installed).load("probe")
    assert "probe" not in Catalog(installed=installed).names
    with pytest.raises(CatalogError, match="there is no collector probe"):
        Catalog(installed=installed).load("probe")


def test_what_was_allowed_runs_by_default(plug_in: ModuleType) -> None:
    """Whoever allows it wants it."""
    assert Catalog(["probe"], installed=[]).is_on_by_default("probe")


def test_a_name_that_nobody_brings_says_what_is_installed(plug_in: ModuleType) -> None:
    """Or that nothing is."""
    with pytest.raises(CatalogError, match="installed are: raid"):
        Catalog(["probe"], installed=[point("raid")]).load("probe")
    with pytest.raises(CatalogError, match="no plug-in is installed"):
        Catalog(["probe"], installed=[]).load("probe")


def test_two_packages_of_one_name_are_both_named() -> None:
    """Which one it would be is nobody's guess."""
    with pytest.raises(CatalogError, match=r"a:A and b:B both bring a collector probe; uninstall one"):
        Catalog(["probe"], installed=[point("probe", "b:B"), point("probe", "a:A")]).load("probe")


def test_one_that_cannot_be_imported_says_why() -> None:
    """Its error is its author's."""
    with pytest.raises(CatalogError, match="cannot be imported: ModuleNotFoundError"):
        Catalog(["probe"], installed=[point("probe", "no_such_module:X")]).load("probe")


def test_one_that_breaks_the_contract_is_refused_with_the_fault(plug_in: ModuleType) -> None:
    """Before it runs."""
    plug_in.Plugin = object  # type: ignore[attr-defined]
    with pytest.raises(CatalogError, match="is no class derived from"):
        Catalog(["probe"], installed=[point("probe")]).load("probe")


class NoAbout(Probe):
    about = None  # type: ignore[assignment]


class Abstract(Collector[Settings]):
    about = Probe.about


class NeedsKey(Settings, frozen=True):
    disk: str


class WantsKey(Probe):
    settings_type = NeedsKey


class OddSettings(Probe):
    settings_type = dict  # type: ignore[assignment]


class Renamed(Probe):
    about = About("other", "x.", "x", "x", Probe.about.interval, ())


class StrangeSamples(Probe):
    about = About(
        "probe", "x.", "x", "x", Probe.about.interval, (*Probe.about.samples, *Renamed.about.samples)
    )


@pytest.mark.parametrize(
    ("loaded", "fault"),
    [
        (Probe, ""),
        (42, "no class derived"),
        (Abstract, "has no collect()"),
        (NoAbout, "has no `about"),
        (Renamed, "calls itself 'other'"),
        (WantsKey, "wants the key disk, which has no default"),
        (OddSettings, "settings_type"),
    ],
)
def test_each_fault_of_the_contract_has_its_sentence(loaded: object, fault: str) -> None:
    """For the author."""
    found = contract_fault("probe", loaded)

    assert fault in found
    assert bool(fault) == bool(found)
