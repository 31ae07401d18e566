"""The dashboard and the alert rules in docs/grafana ask for nothing that the server does not have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from generated_docs import ROOT
from reference_pages import labels_of, registry_of_a_server

FOLDER = ROOT / "docs/grafana"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
NAME = re.compile(r"\bct_ops_\w+")
SELECTED = re.compile(r"\b(?P<name>ct_ops_\w+)\{(?P<matchers>[^}]*)\}")
LABEL = re.compile(r'(\w+)\s*[=!]~?\s*"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
OF_THE_SCRAPE = {"instance", "job"}


def series() -> Mapping[str, frozenset[str]]:
    """Return the names of every series that `/metrics` can show, with their labels."""
    registry = registry_of_a_server()
    return {
        family.name + suffix: frozenset(
            {*labels_of(registry, family.name), *OF_THE_SCRAPE, *({"le"} if suffix == "_bucket" else ())}
        )
        for family in registry.collect()
        for suffix in SUFFIXES[family.type]
    }


SERIES = series()
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "ct-ops-server.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = (FOLDER / "alerts.yml").read_text().split("- alert: ")[1:]


def expression_of(rule: str) -> str:
    found = re.search(r"^ +expr: (.+)$", rule, re.MULTILINE)
    assert found, rule
    return found[1]


def expressions() -> Iterator[str]:
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    yield from map(expression_of, RULES)


def strangers(expression: str) -> set[str]:
    """Return the names in an expression that no server has: of series, and of labels of theirs."""
    names = set(NAME.findall(expression))
    unknown = names - SERIES.keys()
    for selected in SELECTED.finditer(expression):
        unknown |= set(LABEL.findall(selected["matchers"])) - SERIES.get(selected["name"], frozenset())
    labels = frozenset[str]().union(*(SERIES.get(name, frozenset()) for name in names))
    for grouped in GROUPED.findall(expression):
        unknown |= {label.strip() for label in grouped.split(",")} - labels
    return unknown


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_metric_and_label_that_is_asked_for_exists(expression: str) -> None:
    """A panel without data and an alert that cannot fire look like good news."""
    assert NAME.search(expression)
    assert set() == strangers(expression)


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("rate(ct_ops_heartbeats[5m])", {"ct_ops_heartbeats"}),  # a counter ends in _total
        ("ct_ops_push_seconds", {"ct_ops_push_seconds"}),  # a histogram has no series of its own name
        ("ct_ops_connections_bucket", {"ct_ops_connections_bucket"}),
        ('ct_ops_connections{agent="a"}', {"agent"}),
        ("sum by (le) (ct_ops_push_seconds_count)", {"le"}),
        ("sum by (le) (ct_ops_push_seconds_bucket)", set()),
    ],
)
def test_a_stranger_is_found(expression: str, unknown: set[str]) -> None:
    """The test above is no test when it finds nothing."""
    assert unknown == strangers(expression)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    """For whoever looks at it for the first time, at night."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert all(target["legendFormat"] for target in panel["targets"])


def test_panels_have_names_and_places_of_their_own() -> None:
    """None covers another one, and each row of the dashboard has some."""
    every = DASHBOARD["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in every]

    assert len(every) == len({panel["id"] for panel in every}) == len(set(places))
    assert len(PANELS) == len({panel["title"] for panel in PANELS})
    assert [
        "Fleet",
        "Latency",
        "Refusals",
        "Writer and database",
        "Push and revocation",
        "Connections",
    ] == [panel["title"] for panel in every if panel["type"] == "row"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.split()[0])
def test_an_alert_says_how_grave_it_is_and_what_to_do(rule: str) -> None:
    """Whom it wakes needs the next step."""
    assert re.search(r"severity: (critical|warning)\b", rule)
    assert re.search(r"^ +summary: \S.+$", rule, re.MULTILINE)
    assert re.search(r"^ +description: \S.{40,}$", rule, re.MULTILINE)


def test_no_metric_has_a_label_that_a_peer_could_choose() -> None:
    """Attack: each agent, address or path would be a series of its own, for ever."""
    every = frozenset[str]().union(*SERIES.values()) - OF_THE_SCRAPE - {"le"}

    assert every <= {"app", "kind", "method", "reason", "room", "state", "status", "table", "verdict"}


def test_names_say_their_unit() -> None:
    """Durations are in seconds and sizes of memory in bytes, and the name says so."""
    units = {name.removesuffix("_total").rsplit("_", 1)[-1] for name in SERIES}

    assert not units & {"ms", "milliseconds", "us", "minutes", "kb", "mb", "kib", "mib", "percent"}
