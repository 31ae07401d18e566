"""The admin API makes its routes group by group, when one of them is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from ct_ops_server.edge.admin_app import GROUPS
from ct_ops_server.edge.admin_groups import Group, GroupedApp, group_of
from ct_ops_server.edge.admin_parts import AdminParts


class Anything:
    """Parts that are there and never used: routes are made, and nobody asks."""

    def __getattr__(self, name: str) -> Anything:
        return self


def paths(group: Group) -> Iterator[str]:
    app = FastAPI()
    GROUPS[group](app, cast("AdminParts", Anything()))
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield route.path


@pytest.mark.parametrize("group", GROUPS)
def test_every_route_is_in_the_group_that_its_path_names(group: Group) -> None:
    """Otherwise it would be there and never be found."""
    assert {group} == {group_of(path) for path in paths(group)}


def test_every_group_but_none_makes_routes() -> None:
    """None is what belongs to no group, and is not found."""
    assert set(Group) - {Group.NONE} == set(GROUPS)


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/v1/agents/web-1", Group.AGENTS),
        ("/v1/agents/checks", Group.AGENTS),  # an agent of that name
        ("/v1/agents/tasks/samples", Group.SAMPLES),
        ("/v1/tokens/agents", Group.TOKENS),
        ("/v1/agents/a/b/c", Group.NONE),
        ("/v1/", Group.NONE),
        ("/v1", Group.NONE),
        ("", Group.NONE),
        ("/", Group.NONE),
    ],
)
def test_an_agent_may_be_called_what_a_group_is_called(path: str, group: Group) -> None:
    """The place of a word in the path counts, not the word."""
    assert group is group_of(path)


async def test_a_group_is_made_once_and_when_it_is_asked_for() -> None:
    """A command without a server asks one thing, and a server is asked for days."""
    made, answered = list[Group](), list[str]()

    def make(group: Group) -> Any:
        async def app(scope: Any, _receive: Any, _send: Any) -> None:
            answered.append(scope["path"])

        made.append(group)
        return app

    grouped = GroupedApp(make)
    assert made == []
    for path in ("/v1/tokens", "/v1/tokens/x", "/v1/checks"):
        await grouped({"path": path}, None, None)

    assert [Group.TOKENS, Group.CHECKS] == made
    assert ["/v1/tokens", "/v1/tokens/x", "/v1/checks"] == answered
