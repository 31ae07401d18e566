"""Check ``port``: a TCP connection can be made. Names, IPv4 and IPv6 addresses."""

from __future__ import annotations

from ct_ops_agent.checks.attempt import Attempt, connect
from ct_ops_agent.checks.verdict import Verdict, failed, passed, reason
from ct_ops_proto.checks import PortCheck


def probe(config: PortCheck, attempt: Attempt) -> Verdict:
    """Connect and hang up."""
    try:
        connection = connect(config.host, config.port, attempt)
    except OSError as error:
        return failed(f"connection failed: {reason(error)}")
    connection.close()
    return passed(f"port {config.port} reachable")
