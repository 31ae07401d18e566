"""How the admin API shows whether a host's data comes: why it is degraded, and what is known of its delivery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ct_ops_server.edge.admin_views import rfc3339
from ct_ops_server.fleet.delivery import RefusedItems, StoredGap
from ct_ops_server.fleet.health import CollectorHealth, HealthSheet, Reason
from ct_ops_server.fleet.item_reasons import meaning

_GAPS_SHOWN = 20


def reasons_view(reasons: Sequence[Reason]) -> list[dict[str, Any]]:
    """Return why a host is degraded as objects; none: it is not."""
    return [
        {"reason": reason.code.value, "subject": reason.subject, "sentence": reason.sentence}
        for reason in reasons
    ]


def health_view(sheet: HealthSheet) -> dict[str, Any]:
    """Return what is known of a host's delivery as fields of its object."""
    facts = sheet.facts
    return {
        "connected_at": rfc3339(facts.connected_at),
        "delivery": "at most once" if facts.delivered_at is None else "numbered",
        "delivered_at": rfc3339(facts.delivered_at),
        "degraded": reasons_view(sheet.reasons),
        "collectors": [_collector_view(each) for each in facts.collectors],
        "gaps": [_gap_view(each) for each in facts.gaps[:_GAPS_SHOWN]],
        "refused_items": [_refused_view(each) for each in facts.refused],
    }


def _collector_view(collector: CollectorHealth) -> dict[str, Any]:
    interval = collector.interval
    return {
        "name": collector.name,
        "running": interval is not None,
        "interval_s": None if interval is None else interval.total_seconds(),
        "problem": collector.problem,
        "newest_sample_at": rfc3339(collector.newest_at),
        "stored_at": rfc3339(collector.stored_at),
    }


def _gap_view(stored: StoredGap) -> dict[str, Any]:
    gap = stored.gap
    return {
        "type": gap.type,
        "items": gap.count,
        "from": _moment(gap.from_ms),
        "to": _moment(gap.to_ms),
        "reason": gap.reason,
        "reported_at": rfc3339(stored.recorded_at),
    }


def _moment(at_ms: int) -> str | None:
    """Return an agent's time; None for one that it did not know."""
    return rfc3339(datetime.fromtimestamp(at_ms // 1_000, UTC)) if at_ms else None


def _refused_view(refused: RefusedItems) -> dict[str, Any]:
    return {
        "kind": refused.kind,
        "reason": refused.reason,
        "means": meaning(refused.reason),
        "items": refused.count,
        "first_at": rfc3339(refused.first_at),
        "last_at": rfc3339(refused.last_at),
        "example": refused.example,
    }
