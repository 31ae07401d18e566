"""Check ``certificate``: what a TLS port presents is within its dates. Reported as JSON, with what else it says.

A certificate that this host does not trust passes all the same, as existing agents have it: the verdict is about
its dates. Whether it is trusted stands in the report (``trusted``, ``trust_problem``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.report import judge, parse_der
from ct_ops_agent.checks.starttls import NoStartTlsError
from ct_ops_agent.checks.tls import Presented, look
from ct_ops_agent.checks.verdict import Verdict, reason, undone
from ct_ops_proto.checks import CertificateCheck


def probe(config: CertificateCheck, attempt: Attempt, wall: Callable[[], float] = time.time) -> Verdict:
    """Connect, look, judge."""
    try:
        presented = look(config, attempt)
    except (OSError, ValueError, NoStartTlsError) as error:
        return undone(f"connection failed: {reason(error)}")
    try:
        return judge(
            parse_der(presented.chain),
            min_days_left=config.min_days_left,
            now_unix=wall(),
            origin=_origin(config, presented),
        )
    except ValueError as error:
        return undone(f"the certificate cannot be read: {reason(error)}")


def _origin(config: CertificateCheck, presented: Presented) -> dict[str, Any]:
    return {
        "host": config.host,
        "port": config.port,
        "server_name": config.server_name or config.host,
        "tls_version": presented.tls_version,
        "trusted": not presented.trust_problem,
        "trust_problem": presented.trust_problem,
    }
