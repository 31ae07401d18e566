"""Whose word a request over the admin socket is."""

from __future__ import annotations

import os
import pwd
import socket

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from ct_ops_server.edge import peer as peer_module
from ct_ops_server.edge.actors import Actor, PeerNamed, actor_of, client_for, peer_from
from ct_ops_server.edge.peer import Peer, peer_of


class Said(BaseModel):
    actor: Actor


def app() -> FastAPI:
    made = FastAPI()

    @made.post("/")
    async def whose(body: Said) -> str:
        return body.actor

    return made


async def asked(app: object, said: str, client: tuple[str, int]) -> str:
    transport = httpx.ASGITransport(app, client=client)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://ct-ops") as caller:
        return str((await caller.post("/", json={"actor": said})).json())


@pytest.mark.parametrize(
    ("peer", "said", "recorded"),
    [
        (Peer(1001, "anna"), "anna", "anna [uid 1001]"),
        (Peer(0, "root"), "root (sudo by anna)", "root [uid 0], as root (sudo by anna)"),
        (Peer(1001, ""), "anna", "[uid 1001], as anna"),
        (None, "anna", "anna"),
    ],
)
def test_what_the_kernel_knows_stands_before_what_was_said(
    peer: Peer | None, said: str, recorded: str
) -> None:
    """Without a connection there is only a word."""
    assert recorded == actor_of(peer, said)


async def test_attack_a_command_that_says_to_be_somebody_else() -> None:
    """It is recorded as who it is, and that it said so."""
    served = PeerNamed(app())

    assert "eve [uid 7], as anna" == await asked(served, "anna", client_for(Peer(7, "eve")))
    assert "anna" == await asked(served, "anna", ("127.0.0.1", 123))
    assert "anna" == await asked(app(), "anna", client_for(Peer(7, "eve")))


def test_a_client_that_is_an_address_is_nobody_of_this_host() -> None:
    """Nor is none."""
    assert peer_from(("127.0.0.1", 7)) is None
    assert peer_from(None) is None
    assert Peer(7, "") == peer_from(client_for(Peer(7, "")))


def test_the_kernel_names_the_other_end() -> None:
    """And whether it may operate."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        found = peer_of(here)

    assert found == Peer(os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name)
    assert found.may_operate
    assert not Peer(os.geteuid() + 1, "").may_operate


def test_where_the_platform_does_not_tell_nobody_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said is recorded alone, as before."""
    monkeypatch.setattr(peer_module, "_OPTION", None)
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_of(here) is None
