"""The verdict for a human: one headline, a few aligned lines, the problem at the end.

Nothing here trusts the report's texts: a host name may hold what moves a terminal's cursor, so what
cannot be printed is shown as a question mark.
"""

from __future__ import annotations

from collections.abc import Iterator

from ct_ops_agent.status.delivery import delivery_lines
from ct_ops_agent.status.report import Report, State, format_time
from ct_ops_agent.status.verdict import Verdict

_WORTH_SHOWING_SKEW_S = 1.0
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60
_LABEL_WIDTH = 13


def describe(report: Report | None, verdict: Verdict, now: float) -> str:
    """Return the whole text, without a line break at its end."""
    lines = [_headline(report, verdict)]
    if report:
        lines += [f"  {label:<{_LABEL_WIDTH}}{shown(text)}" for label, text in _facts(report, verdict, now)]
    if verdict.problem:
        lines += ["", shown(verdict.problem)]
    return "\n".join(lines)


def shown(text: str) -> str:
    """Return text that a terminal may be given."""
    return "".join(character if character.isprintable() else "?" for character in text)


def for_humans(seconds: float) -> str:
    """Return a duration in its largest sensible unit: ``5 s``, ``3 min``, ``2 h``, ``89 days``."""
    size = abs(seconds)
    for unit_s, name in ((2 * _DAY_S, "days"), (2 * _HOUR_S, "h"), (2 * _MINUTE_S, "min")):
        if size >= unit_s:
            return f"{2 * size / unit_s:.0f} {name}"
    return f"{size:.0f} s"


def _headline(report: Report | None, verdict: Verdict) -> str:
    if report is None:
        return f"ct-ops-agent: {verdict.headline}"
    where = f" on {shown(report.hostname)}" if report.hostname else ""
    return f"ct-ops-agent {shown(report.version)}{where}: {verdict.headline}"


def _facts(report: Report, verdict: Verdict, now: float) -> Iterator[tuple[str, str]]:
    if not verdict.is_running:
        yield "last seen", f"{_ago(report.written_at, now)}, {report.state.value}"
    if report.agent_id:
        key = f" (key {report.key_id[:16]})" if report.key_id else ""
        yield "agent", f"{report.agent_id}{key}"
    if report.server:
        yield "server", _server(report)
    if report.server_cas:
        yield "believes", f"server CA {', '.join(report.server_cas)}"
    yield from _conversation(report, verdict, now)
    if report.leaf_not_after:
        yield "certificate", _until(report.leaf_not_after, now)
    if report.agent_token_expires_at:
        yield "agent token", _until(report.agent_token_expires_at, now)
    if report.clock_skew_s is not None:
        yield "clock", _clock(report.clock_skew_s)
    delivered = "" if report.delivered_at is None else _ago(report.delivered_at, now)
    oldest = "" if report.outbox_oldest is None else _ago(report.outbox_oldest, now)
    yield from delivery_lines(report, delivered, oldest)
    yield "data", report.data_dir


def _server(report: Report) -> str:
    if report.features:
        return f"{report.server} (offers {', '.join(report.features)})"
    return report.server if report.acknowledged_at is None else f"{report.server} (existing: send and forget)"


def _conversation(report: Report, verdict: Verdict, now: float) -> Iterator[tuple[str, str]]:
    if report.acknowledged_at is not None:
        every = f", every {report.heartbeat_interval_s:.0f} s" if report.state is State.CONNECTED else ""
        yield "heartbeat", f"acknowledged {_ago(report.acknowledged_at, now)}{every}"
    if report.next_try_at is not None and verdict.is_running:
        waits_s = report.next_try_at - now
        yield "next try", f"in {for_humans(waits_s)}" if waits_s > 0 else "now"


def _ago(unix: float, now: float) -> str:
    return f"{for_humans(now - unix)} ago" if now >= unix else f"at {format_time(unix)}"


def _until(unix: float, now: float) -> str:
    if unix <= now:
        return f"expired {_ago(unix, now)}"
    return f"until {format_time(unix)} ({for_humans(unix - now)} left)"


def _clock(skew_s: float) -> str:
    if abs(skew_s) < _WORTH_SHOWING_SKEW_S:
        return "agrees with the server's"
    return f"{for_humans(skew_s)} {'ahead of' if skew_s > 0 else 'behind'} the server's"
