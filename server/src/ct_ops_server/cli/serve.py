"""``ct-ops-server serve``: runs a server until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from contextlib import suppress

import click

from ct_ops_proto.service_manager import ServiceManager, find_service_manager, watchdog_seconds
from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.logs import configure_logging
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.schema import Settings

_log = logging.getLogger("ct_ops_server")


@click.command()
def serve() -> None:
    """Run a server until SIGTERM or SIGINT."""
    import uvloop  # noqa: PLC0415  keeps the other commands light

    with errors_as_exits():
        settings = load_settings(os.environ)
        configure_logging(settings.log_level)
        for notice in settings.notices:
            _log.warning("%s", notice)
        for sentence in settings.information:
            _log.info("%s", sentence)
        try:
            uvloop.run(_serve(settings))
        except OSError as error:
            raise Stop(Exit.FAILED, f"cannot start: {error.strerror or error}") from error


async def _serve(settings: Settings) -> None:
    from ct_ops_server.app import running_server  # noqa: PLC0415  keeps the other commands light

    manager, stopping = find_service_manager(os.environ), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with running_server(settings) as server:
        # What is loaded by now stays: the collector need not walk over all of it again under load. Frames leave
        # no cycles, so it may also come by less often: at its usual pace it takes 3 % of a busy server.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 50, 50)
        _log.info(
            "agents: port %d (tokens say %s), at most %d connections",
            server.grpc_port,
            ", ".join(server.public_addresses),
            server.ceiling,
        )
        _log.info("http: %s port %d", settings.http_host, server.http_port)
        click.echo(f"ready grpc_port={server.grpc_port} http_port={server.http_port}")
        sys.stdout.flush()
        manager.ready(f"serving agents on port {server.grpc_port}")
        await _until(stopping, manager, watchdog_seconds(os.environ))
        manager.stopping()
        _log.info("stopping")


async def _until(stopping: asyncio.Event, manager: ServiceManager, silence_s: float | None) -> None:
    """Wait for the stop; until then feed the watchdog from the event loop that serves everybody."""
    while not stopping.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), silence_s and silence_s / 3)
        manager.alive()
