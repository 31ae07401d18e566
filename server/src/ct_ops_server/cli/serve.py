"""``ct-ops-server serve``: runs a server until SIGTERM or SIGINT, in this process or in several workers.

With ``--workers N`` this process is the parent (`workers.supervisor`), and the same command, started by it with a
``Place`` in its environment, is a worker.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from ct_ops_proto.service_manager import ServiceManager, find_service_manager, watchdog_seconds
from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.logs import configure_logging
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.schema import Settings
from ct_ops_server.ownership import ADMIN_SOCKET, owned
from ct_ops_server.workers.line import ALIVE_EVERY_S, LineToParent
from ct_ops_server.workers.place import Place, inherited_place
from ct_ops_server.workers.sockets import SharedSockets, shared_sockets
from ct_ops_server.workers.supervisor import Family, Supervisor, WorkersFailedError, environment_of_workers

_log = logging.getLogger("ct_ops_server")


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="How many processes serve agents; more than 1 on PostgreSQL only [default: INGEST_WORKERS, or 1].",
)
def serve(workers: int | None) -> None:
    """Run a server until SIGTERM or SIGINT."""
    import uvloop  # noqa: PLC0415  keeps the other commands light

    with errors_as_exits():
        place = inherited_place(os.environ)
        if workers is not None:
            os.environ["INGEST_WORKERS"] = str(workers)
        settings = load_settings(os.environ)
        configure_logging(settings.log_level, settings.log_format)
        if place is None:
            _say_notices(settings)
        try:
            if place is not None:
                uvloop.run(_work(settings, place))
            elif settings.workers > 1:
                asyncio.run(_supervise(settings))
            else:
                uvloop.run(_serve(settings))
        except WorkersFailedError as error:
            raise Stop(error.code, str(error)) from error
        except OSError as error:
            raise Stop(Exit.FAILED, f"cannot start: {error.strerror or error}") from error


def _say_notices(settings: Settings) -> None:
    for notice in settings.notices:
        _log.warning("%s", notice)
    for sentence in settings.information:
        _log.info("%s", sentence)


async def _serve(settings: Settings) -> None:
    """Be the whole server."""
    from ct_ops_server.app import running_server  # noqa: PLC0415  keeps the other commands light

    manager, stopping = find_service_manager(os.environ), _stop_signal()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGHUP,
        _log.warning,
        "SIGHUP replaces workers, and there is one process only: restart it instead",
    )
    async with running_server(settings) as server:
        _freeze()
        _log.info(
            "agents: port %d (tokens say %s), at most %d connections",
            server.grpc_port,
            ", ".join(server.public_addresses),
            server.ceiling,
        )
        _announce(settings, manager, server.grpc_port, server.http_port)
        silence_s = watchdog_seconds(os.environ)
        await _until(stopping, silence_s and silence_s / 3, manager.alive)
        manager.stopping()
        _log.info("stopping")


async def _work(settings: Settings, place: Place) -> None:
    """Be one worker: say to the parent what the whole server says to systemd."""
    from ct_ops_server.app import running_server  # noqa: PLC0415  keeps the parent light

    line, stopping = LineToParent(place.line()), _stop_signal()
    line.on_end(stopping.set)
    living = asyncio.create_task(_say_alive(line))
    try:
        async with running_server(settings, place=place) as server:
            _freeze()
            _log.info("worker %d: at most %d connections", place.index, server.ceiling)
            line.ready()
            await stopping.wait()
            _log.info("worker %d: stopping", place.index)
    finally:
        living.cancel()
        line.close()


async def _say_alive(line: LineToParent) -> None:
    """Say that the event loop turns, until the very end: a worker that drains is not hung."""
    while True:
        line.alive()
        await asyncio.sleep(ALIVE_EVERY_S)


async def _supervise(settings: Settings) -> None:
    """Be the parent of the workers."""
    manager, silence_s = find_service_manager(os.environ), watchdog_seconds(os.environ)
    with (
        owned(settings.data_dir) as lock,
        shared_sockets(
            grpc=(settings.grpc_host, settings.grpc_port),
            http=(settings.http_host, settings.http_port),
            admin=settings.data_dir / ADMIN_SOCKET,
        ) as sockets,
        tempfile.TemporaryDirectory(prefix="ct-ops-", dir=os.environ.get("RUNTIME_DIRECTORY")) as folder,
    ):
        supervisor = Supervisor(_family(settings, sockets, lock), Path(folder))
        _on_signals(supervisor, manager)

        def ready() -> None:
            _log.info("agents: port %d, %d workers", sockets.grpc_port, settings.workers)
            _announce(settings, manager, sockets.grpc_port, sockets.http_port)

        feeding = asyncio.create_task(_feed(manager, supervisor, silence_s))
        try:
            await supervisor.run(ready)
        finally:
            feeding.cancel()


def _family(settings: Settings, sockets: SharedSockets, lock: int) -> Family:
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  keeps the other commands light

    return Family(
        count=settings.workers,
        sockets=sockets,
        lock_fd=lock,
        drain_s=settings.drain.total_seconds(),
        environment=environment_of_workers(),
        forget=mark_process_dead,
    )


def _on_signals(supervisor: Supervisor, manager: ServiceManager) -> None:
    def stop() -> None:
        manager.stopping()
        _log.info("stopping")
        supervisor.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.replace)


async def _feed(manager: ServiceManager, supervisor: Supervisor, silence_s: float | None) -> None:
    """Feed the watchdog for as long as at least one worker's event loop turns."""
    while silence_s is not None:
        await asyncio.sleep(silence_s / 3)
        if supervisor.alive:
            manager.alive()


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _freeze() -> None:
    """Have the collector walk no more over what is loaded by now and stays.

    Frames leave no cycles, so it may also come by less often: at its usual pace it takes 3 % of a busy server.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)


def _announce(settings: Settings, manager: ServiceManager, grpc_port: int, http_port: int) -> None:
    _log.info("http: %s port %d", settings.http_host, http_port)
    click.echo(f"ready grpc_port={grpc_port} http_port={http_port}")
    sys.stdout.flush()
    manager.ready(f"serving agents on port {grpc_port}")


async def _until(stopping: asyncio.Event, every_s: float | None, alive: Callable[[], None]) -> None:
    """Wait for the stop; until then show life from the event loop that serves everybody."""
    while not stopping.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), every_s)
        alive()
