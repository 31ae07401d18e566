"""From a name in ``[collectors.NAME]`` to the class that does it: the built-in table, then allowed plug-ins.

A plug-in is a class that another distribution names under the entry point group ``ct_ops.collectors``. It runs
inside the agent, so it is loaded only when ``[collectors] allowed`` names it: an installed package alone must
not be able to join a daemon that sees the whole host. Faults are found when it is loaded, and say which
distribution brought it and what is wrong.

Order of loading is that of the names, so that it is the same everywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

import msgspec

from ct_ops_agent.collector import About, AnyCollector, Collector, Settings
from ct_ops_agent.collectors import BUILT_IN, ON_BY_DEFAULT

GROUP = "ct_ops.collectors"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class CatalogError(Exception):
    """A collector cannot be had; the text names it and says what to do."""


class Catalog:
    """Knows every collector by its name."""

    def __init__(
        self,
        allowed: Iterable[str] = (),
        *,
        built_in: Mapping[str, str] = BUILT_IN,
        on_by_default: Iterable[str] = ON_BY_DEFAULT,
        installed: Iterable[EntryPoint] | None = None,
    ) -> None:
        """Prepare; nothing is imported yet.

        Args:
            allowed: plug-ins that may be loaded.
            built_in: names to "module:Class" in the package of the built-in ones.
            on_by_default: which of them run without being asked for.
            installed: the entry points to look among; those of this Python by default.
        """
        self._built_in = built_in
        self._on_by_default = frozenset(on_by_default)
        self._allowed = frozenset(allowed)
        self._installed = installed

    @property
    def names(self) -> tuple[str, ...]:
        """Return every name that may stand in the configuration, sorted."""
        return tuple(sorted({*self._built_in, *self._allowed}))

    def is_on_by_default(self, name: str) -> bool:
        """Whether it runs without being asked for. What was allowed was asked for."""
        return name in self._on_by_default or name in self._allowed

    def load(self, name: str) -> type[AnyCollector]:
        """Return the class of a collector.

        Raises:
            CatalogError: there is none, or it does not keep the contract.
        """
        if name in self._built_in:
            module, _, attribute = self._built_in[name].partition(":")
            path = module if "." in module else f"ct_ops_agent.collectors.{module}"
            found: type[AnyCollector] = getattr(import_module(path), attribute)
            return found
        if name in self._allowed:
            return self._load_plug_in(name)
        raise CatalogError(f"there is no collector {name}")

    def _load_plug_in(self, name: str) -> type[AnyCollector]:
        found = self._find_entry_point(name)
        try:
            loaded = found.load()
        except Exception as error:
            raise CatalogError(
                f"the collector {name} of {_origin(found)} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if fault := contract_fault(name, loaded):
            raise CatalogError(f"the collector {name} of {_origin(found)} {fault}")
        checked: type[AnyCollector] = loaded
        return checked

    def _find_entry_point(self, name: str) -> EntryPoint:
        installed = entry_points(group=GROUP) if self._installed is None else self._installed
        found = [point for point in installed if point.name == name]
        if not found:
            others = sorted({point.name for point in installed})
            known = f"installed are: {', '.join(others)}" if others else "no plug-in is installed"
            raise CatalogError(f"no installed package brings a collector {name}; {known}")
        if len(found) > 1:
            origins = " and ".join(sorted(_origin(point) for point in found))
            raise CatalogError(f"{origins} both bring a collector {name}; uninstall one of them")
        return found[0]


def contract_fault(name: str, loaded: object) -> str:
    """Return what a plug-in lacks to be a collector, empty when it is one."""
    if not (isinstance(loaded, type) and issubclass(loaded, Collector)):
        return "is no class derived from ct_ops_agent.collector.Collector"
    if getattr(loaded.collect, "__isabstractmethod__", False):
        return "has no collect()"
    about = getattr(loaded, "about", None)
    if not isinstance(about, About):
        return "has no `about = About(…)`"
    if about.name != name or not _NAME.fullmatch(about.name):
        return f"calls itself {about.name!r}: its name must be the entry point's, a lower-case word"
    if strange := [doc.name for doc in about.samples if not doc.name.startswith(f"{name}.")]:
        return f"documents {strange[0]}, which does not begin with {name}."
    return _settings_fault(loaded.settings_type)


def runs_here(about: About, platform: str = sys.platform) -> bool:
    """Whether a collector works on this system."""
    return platform.startswith(about.platforms)


def _settings_fault(settings: object) -> str:
    if not (isinstance(settings, type) and issubclass(settings, Settings)):
        return "has a settings_type that is not derived from ct_ops_agent.collector.Settings"
    required = [field.name for field in msgspec.structs.fields(settings) if field.required]
    return f"wants the key {required[0]}, which has no default" if required else ""


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
