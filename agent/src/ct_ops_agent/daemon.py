"""The daemon: runs what `assembly` has built until it is told to stop.

Stop (SIGTERM, SIGINT): work, lifecycle and gathering are cancelled first, which ends the heartbeat stream politely,
then the schedule; what waits in the outbox is on the disk already, and the directory is free again.
"""

import asyncio
import logging
import os
import signal

from ct_ops_agent.assembly import built_agent, built_lifecycle
from ct_ops_agent.clock import SYSTEM_CLOCK, Clock
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.lifecycle import Outcome
from ct_ops_agent.scheduling import Schedule
from ct_ops_agent.service.watchdog import Progress
from ct_ops_proto.service_manager import find_service_manager, watchdog_seconds

_log = logging.getLogger(__name__)


async def run_daemon(config: AgentConfig) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        ConfigError: there is neither an identity nor a token to get one.
        DataDirectoryError: the data directory cannot be used.
    """
    due, stop = asyncio.Event(), stop_on_signals()
    schedule = Schedule(SYSTEM_CLOCK)
    schedule.every(config.heartbeat_interval, "heartbeat", due.set)
    manager = find_service_manager(os.environ)
    progress = Progress(
        manager,
        SYSTEM_CLOCK,
        interval_s=config.heartbeat_interval.total_seconds(),
        silence_s=watchdog_seconds(os.environ),
    )
    with built_agent(config, due, watchers=(progress,)) as agent:
        manager.ready("the configuration is valid")
        try:
            async with asyncio.TaskGroup() as tasks:
                guarding = tasks.create_task(schedule.guard(), name="schedule")
                # The workshop first: it knows what ran before the start when the server speaks.
                parts = [agent.workshop, agent.lifecycle, agent.gatherer, progress]
                running = {tasks.create_task(part.run()) for part in parts if part}
                await stop.wait()
                manager.stopping()
                for task in running:
                    task.cancel()
                await asyncio.wait(running)
                guarding.cancel()
                if agent.courier:
                    await agent.courier.finish()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the first failure cancelled the others
    _log.info("stopped")


async def run_once(config: AgentConfig, clock: Clock = SYSTEM_CLOCK) -> Outcome:
    """Enrol if there is need and send one heartbeat.

    Raises:
        AgentError: any of its kinds.
    """
    with built_lifecycle(config, asyncio.Event(), clock, watched=False) as lifecycle:
        return await lifecycle.once()


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
