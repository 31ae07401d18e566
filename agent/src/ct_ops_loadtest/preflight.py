"""Before a run: can this host do it, and does the server take it? Each trouble is a sentence with the next step.

* this host: descriptors a process, ports for outgoing connections (``host_troubles``: pure)
* the server: it answers, with a certificate that is believed; a throw-away Register comes back active with a leaf, and that agent's
  stream is served; the clocks agree (``Probe``)

The throw-away agent is a host of this run, so ``cleanup`` takes it, too.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ct_ops_loadtest.connection import RpcError
from ct_ops_loadtest.plan import Plan, Target
from ct_ops_loadtest.virtual_agent import NotApprovedError, VirtualAgent

SKEW_S = 5.0
_OWN_DESCRIPTORS = 64
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SPARE_PORTS = 500


class PreflightError(Exception):
    """The run cannot begin. ``str()`` is one or more sentences."""


@dataclass(frozen=True)
class Host:
    """What this host allows."""

    descriptors: int
    """Of a process."""
    ports: int
    """For connections to one address."""


def this_host() -> Host:
    """Read what this host allows, raising the soft limit of descriptors to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the processes inherit it
    try:
        low, high = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = 32_768, 60_999
    return Host(hard, high - low + 1)


def host_troubles(host: Host, plan: Plan, processes: int) -> Iterator[str]:
    """Yield why this host cannot carry the plan."""
    connections = math.ceil(plan.agents / plan.fanout)
    needed = math.ceil(connections / processes) + plan.concurrency + _OWN_DESCRIPTORS
    if host.descriptors != resource.RLIM_INFINITY and needed > host.descriptors:
        enough = math.ceil(connections / max(1, host.descriptors - plan.concurrency - _OWN_DESCRIPTORS))
        yield (
            f"each process needs {needed} descriptors and may have {host.descriptors}: "
            f"raise the limit (ulimit -Hn), or share the agents among --processes {enough}"
        )
    if connections > host.ports - _SPARE_PORTS:
        yield (
            f"{connections} connections to one address need more local ports than the {host.ports} of this host: "
            "widen net.ipv4.ip_local_port_range, or run from several hosts"
        )


async def probe(target: Target, plan: Plan) -> list[str]:
    """Try the server with one throw-away agent; return warnings.

    Raises:
        PreflightError: the run would be refused.
    """
    agent = VirtualAgent(target, f"{plan.hostname_prefix}-{plan.run_id}-preflight", lambda _: None)
    try:
        asked_s = time.time()
        await agent.register(target.trust.context())
        skew_s = clock_difference_s(agent.agent_token, asked_s, time.time())
    except NotApprovedError as error:
        raise PreflightError(f"the server {error}") from error
    except RpcError as error:
        raise PreflightError(_register_trouble(error, target)) from error
    except OSError as error:
        raise PreflightError(f"the server's authority cannot be used: {error}") from error
    try:
        await agent.open(await agent.dial())
    except RpcError as error:
        raise PreflightError(f"the server registers agents and refuses their stream: {error}") from error
    finally:
        agent.close()
    return list(_clock_warnings(skew_s))


def clock_difference_s(agent_token: str, asked_s: float, answered_s: float) -> float:
    """Return how far the server's clock is ahead of ours: by when it says that it issued the token, which is in whole seconds."""
    issued_s = _issued_s(agent_token)
    if issued_s is None:
        return 0.0
    if issued_s + 1 < asked_s:
        return issued_s + 1 - asked_s
    return max(0.0, issued_s - answered_s)


def _issued_s(agent_token: str) -> float | None:
    """Return the token's ``iat``. It is not verified: nothing is decided by it."""
    try:
        payload = agent_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None


def _clock_warnings(skew_s: float) -> Iterator[str]:
    if abs(skew_s) > SKEW_S:
        which = "ahead of" if skew_s > 0 else "behind"
        yield f"the server's clock is {abs(skew_s):.0f} s {which} this host's: new leaves may be refused as not yet valid"


def _register_trouble(error: RpcError, target: Target) -> str:
    text = str(error)
    if "cannot connect" in text:
        return (
            f"{target.server.authority} does not answer ({text}): check --address, and that the server runs"
        )
    if "TLS handshake failed" in text or "certificate" in text.lower():
        return f"the server's certificate is not believed ({text}): give its authority with --ca-cert"
    if error.code == "UNAUTHENTICATED":
        return f"the token is not accepted ({text}): make a new one, auto-approving and with enough uses"
    return f"the server refused a registration: {text}"
