"""``[collectors]``: every mistake is told, by its key."""

from __future__ import annotations

import pytest
import tomli

from ct_ops_agent.collectors import ON_BY_DEFAULT
from ct_ops_agent.config.collectors import CollectorConfig, read_collectors
from ct_ops_agent.config.problems import ProblemList
from ct_ops_agent.config.sample import sample_toml, settings_in
from ct_ops_agent.errors import ConfigError


def read(text: str) -> CollectorConfig:
    problems = ProblemList()
    found = read_collectors(tomli.loads(text), problems)
    problems.raise_if_any()
    return found


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def names(config: CollectorConfig) -> set[str]:
    return {plan.name for plan in config.plans}


def test_without_a_word_the_cheap_ones_run() -> None:
    """As the table of built-in collectors says."""
    assert set(ON_BY_DEFAULT) == names(read(""))


def test_one_is_turned_off_by_its_key_and_on_by_any_word_about_it() -> None:
    """Whoever writes a table about a collector wants it to run."""
    text = "[collectors.cpu]\nenabled = false\n[collectors.textfile]\ndirectory = '/srv'\n"
    found = read(text)

    assert {*ON_BY_DEFAULT, "textfile"} - {"cpu"} == names(found)


def test_interval_and_timeout_are_its_own() -> None:
    """As durations, or as seconds."""
    found = read("[collectors.cpu]\ninterval = '5m'\ntimeout = 3\n")
    (plan,) = [plan for plan in found.plans if plan.name == "cpu"]

    assert (300.0, 3.0) == (plan.interval_s, plan.timeout_s)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[collectors.cpuu]\n", "collectors.cpuu: there is no such key; did you mean collectors.cpu?"),
        ("[collectors.disk]\nintervall = '5m'\n", "did you mean collectors.disk.interval?"),
        ("[collectors.disk]\nnetwrok = true\n", "did you mean collectors.disk.network?"),
        ("[collectors.disk]\nnetwork = 'yes'\n", "collectors.disk.network: Expected `bool`, got `str`"),
        ("[collectors.disk]\ninterval = 'soon'\n", "collectors.disk.interval: 'soon' is no duration"),
        ("[collectors.disk]\ninterval = '0s'\n", "is out of range"),
        ("[collectors.disk]\ninterval = '8d'\n", "is out of range"),
        ("[collectors.disk]\nenabled = 'maybe'\n", "collectors.disk.enabled"),
        ("[collectors.processes]\ntop = 51\n", "collectors.processes.top: Expected `int` <= 50"),
        ("[collectors]\ndisk = true\n", "collectors.disk: this is a table"),
        ("[collectors]\nallowed = 'raid'\n", "collectors.allowed: write a list of names"),
        ("[collectors]\nallowed = ['raid']\n", "no installed package brings a collector raid"),
        ("[collectors]\nallowed = ['cpu']\n", "cpu is built in and needs no permission"),
        ("[collectors]\nexec = 1\n", "write [[collectors.exec]]"),
        ("[[collectors.exec]]\ncommand = ['/x']\n", "collectors.exec[1].name: give it a name"),
        ("[[collectors.exec]]\nname = 'cpu'\ncommand = ['/x']\n", "another collector is called cpu"),
        ("[[collectors.exec]]\nname = 'x'\n", "collectors.exec[1].command: say what to run"),
        ("[[collectors.exec]]\nname = 'x'\ncommand = ['/x']\nformat = 'xml'\n", "collectors.exec[1].format"),
        ("[[collectors.exec]]\nname = 'x'\ncommnad = ['/x']\n", "did you mean collectors.exec[1].command?"),
    ],
)
def test_a_mistake_is_named_by_its_key_with_what_to_do(text: str, said: str) -> None:
    """One each."""
    (problem,) = problems_of(text)

    assert said in problem


def test_all_mistakes_are_told_at_once() -> None:
    """Whoever fixes one and is told about the next restarts as often as there are mistakes."""
    text = "[collectors.cpu]\nintervall = 1\ninterval = 'x'\nmost_cores = -1\n[collectors.dsk]\n"

    assert 4 == len(problems_of(text))


def test_programs_are_collectors_by_their_own_names() -> None:
    """With their own interval, and time to be killed within it."""
    found = read("[[collectors.exec]]\nname = 'backup'\ncommand = ['/x']\ninterval = '5m'\ntimeout = '20s'\n")
    (plan,) = [plan for plan in found.plans if plan.name == "backup"]

    assert (300.0, 22.0) == (plan.interval_s, plan.timeout_s)


def test_the_sample_configuration_is_valid_and_changes_nothing() -> None:
    """Everything in it is a comment."""
    assert names(read("")) == names(read(sample_toml()))


def test_every_setting_of_the_sample_is_valid_as_it_stands() -> None:
    """So whoever takes the mark away has something that works."""
    text = settings_in(sample_toml())
    found = read(text)

    assert {*names(read("")), "certificates", "textfile", "backup"} - names(found) <= {
        "certificates",
        "textfile",
    }
    assert 'interval = "5m"' in text
