"""What one run of a check costs the agent, thread and result included.

    python bench/checks.py [--runs 200]

Starts servers on loopback in a process of their own, and stops them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import click

from ct_ops_agent.checks.kinds import prepare
from ct_ops_agent.checks.runner import Run
from ct_ops_agent.clock import SYSTEM_CLOCK
from ct_ops_agent.work import CheckDefinition

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from check_peers import LOCAL_NAMES, listening, sign, silence

_PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def serve_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_PAGE)
    await writer.drain()


async def serve_until_closed(folder: str) -> None:
    """Be the servers: print their ports, end when standard input does."""
    tls = sign(names=LOCAL_NAMES).context(Path(folder))
    async with AsyncExitStack() as stack:
        servers = (listening(silence), listening(serve_page), listening(silence, tls=tls))
        print(*[await stack.enter_async_context(each) for each in servers], flush=True)
        await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def servers(folder: str) -> AsyncIterator[list[int]]:
    """Run the servers beside us, so that their cost is not ours; yield their ports."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--serve", folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield [int(port) for port in (await process.stdout.readline()).split()]
    finally:
        process.terminate()
        await process.wait()


async def measure(runs: int) -> None:
    """Print a line for each type."""
    with tempfile.TemporaryDirectory(prefix="ct-ops-bench-") as folder:
        file = Path(folder) / "web.pem"
        file.write_text(sign().pem)
        async with servers(folder) as (tcp, http, tls):
            configs: dict[str, dict[str, object]] = {
                "port": {"host": "127.0.0.1", "port": tcp},
                "http": {"url": f"http://127.0.0.1:{http}/"},
                "certificate": {"host": "127.0.0.1", "port": tls},
                "cert_file": {"file_path": str(file)},
                "process": {"process_name": "no such process"},
            }
            for check_type, config in configs.items():
                print(await cost_of(check_type, config, runs))


async def cost_of(check_type: str, config: dict[str, object], runs: int) -> str:
    """Return what a run costs, when what it needs is loaded."""
    run = Run(CheckDefinition("bench", check_type, json.dumps(config), 60.0), prepare, SYSTEM_CLOCK)
    await run.once()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(runs):
        result = await run.once()
    cpu_ms, wall_ms = (
        (end - start) / runs * 1000
        for start, end in ((cpu, time.process_time()), (wall, time.perf_counter()))
    )
    return f"{check_type:<12} {result.status:<6} {cpu_ms:6.2f} ms of CPU {wall_ms:7.2f} ms"


@click.command()
@click.option("--runs", default=200, show_default=True)
@click.option("--serve", hidden=True)
def bench(runs: int, serve: str | None) -> None:
    """Measure every type of check."""
    if serve:
        asyncio.run(serve_until_closed(serve))
        return
    asyncio.run(measure(runs))


if __name__ == "__main__":
    bench()
