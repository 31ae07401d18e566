"""Dialling an upstream whose backlog is full (rule 5), with real UNIX sockets."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from ct_ops_server.edge.dialling import Dialler, UpstreamBusyError, fresh_peer_name

_PATIENCE_S = 30.0


def listening(folder: Path, backlog: int) -> socket.socket:
    """Return a socket that listens and whose owner accepts nobody unless the test does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "upstream.sock"))
    listener.listen(backlog)
    return listener


def fill(folder: Path) -> list[socket.socket]:
    """Connect until no more fits into the backlog."""
    connected: list[socket.socket] = []
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(0)
        try:
            sock.connect(str(folder / "upstream.sock"))
        except BlockingIOError:
            sock.close()
            return connected
        connected.append(sock)


async def test_with_a_full_backlog_a_dial_waits_for_room_and_is_really_connected(tmp_path: Path) -> None:
    """A socket that only looks connected would swallow an agent's first bytes."""
    peer = fresh_peer_name()
    with listening(tmp_path, 0) as listener:
        waiting = fill(tmp_path)
        dialler = Dialler(at_once=1, timeout_s=_PATIENCE_S)
        dial = asyncio.create_task(dialler.dial(tmp_path / "upstream.sock", peer, asyncio.Protocol))
        accepted: list[tuple[socket.socket, object]] = []
        while not dial.done() or len(accepted) <= len(waiting):
            listener.settimeout(0)
            try:
                accepted.append(listener.accept())
            except BlockingIOError:
                await asyncio.sleep(0)
        await dial
        names = [name for _, name in accepted]
        for sock in (*waiting, *(sock for sock, _ in accepted)):
            sock.close()

    assert f"\0{peer}".encode() == names[-1]


async def test_an_upstream_that_never_accepts_is_busy_after_the_time_allowed(tmp_path: Path) -> None:
    """And says which one."""
    with listening(tmp_path, 0):
        waiting = fill(tmp_path)
        with pytest.raises(UpstreamBusyError, match=r"upstream\.sock does not accept"):
            await Dialler(at_once=1, timeout_s=0.05).dial(
                tmp_path / "upstream.sock", fresh_peer_name(), asyncio.Protocol
            )
        for sock in waiting:
            sock.close()


async def test_an_upstream_that_does_not_listen_is_busy_at_once(tmp_path: Path) -> None:
    """There is nothing to wait for."""
    with pytest.raises(UpstreamBusyError, match=r"nobody\.sock does not accept"):
        await Dialler(at_once=1, timeout_s=_PATIENCE_S).dial(
            tmp_path / "nobody.sock", fresh_peer_name(), asyncio.Protocol
        )


async def test_only_so_many_dials_are_under_way_at_once(tmp_path: Path) -> None:
    """The others wait for their turn: five dials that each take their whole time, two at once, are three times of it."""
    loop = asyncio.get_running_loop()
    with listening(tmp_path, 0):
        waiting = fill(tmp_path)
        began = loop.time()
        dialler = Dialler(at_once=2, timeout_s=0.05)
        ends = await asyncio.gather(
            *(
                dialler.dial(tmp_path / "upstream.sock", fresh_peer_name(), asyncio.Protocol)
                for _ in range(5)
            ),
            return_exceptions=True,
        )
        took_s = loop.time() - began
        for sock in waiting:
            sock.close()

    assert took_s >= 3 * 0.05
    assert [UpstreamBusyError] * 5 == [type(each) for each in ends]
