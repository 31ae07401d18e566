"""An agent in a process of its own that puts results as fast as they are durable, and says each one.

``python putting_agent.py DATA_DIR ADDRESS CHECK_ID FIRST_MS`` prints the time of a result after `put` has
returned, which is the moment from which it must not be lost. It is made to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from itertools import count
from pathlib import Path

from ct_ops_agent.assembly import built_agent
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.delivery.courier import Courier
from ct_ops_agent.work import CheckResult, CheckStatus


def config_for(data_dir: Path, address: str) -> AgentConfig:
    """Return the configuration of an agent that is enrolled."""
    return AgentConfig(
        address=address,
        ca_cert_file=None,
        tls_skip_verify=False,
        enrolment_token=None,
        data_dir=data_dir,
        heartbeat_interval=timedelta(seconds=1),
        tags=(),
        hostname="host-1",
    )


async def put_results(courier: Courier, check_id: str, first: int) -> None:
    """Put one result after the other; not so many that the server would forget the first ones."""
    for at_ms in count(first):
        await courier.put(CheckResult(check_id, CheckStatus.PASS, "ok", 1, at_ms))
        print(at_ms, flush=True)  # noqa: T201  the parent counts
        await asyncio.sleep(0.015)


async def run(data_dir: Path, address: str, check_id: str, first: int) -> None:
    """Live and put until killed."""
    with built_agent(config_for(data_dir, address), asyncio.Event()) as agent:
        assert agent.courier is not None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(agent.lifecycle.run())
            tasks.create_task(put_results(agent.courier, check_id, first))


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
