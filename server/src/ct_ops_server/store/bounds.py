"""What bounds each table: nothing in the database grows without end.

``docs/retention.md`` is printed from here, and a test compares it with the schema: a new table needs its line.
"""

from __future__ import annotations

from collections.abc import Mapping

BOUNDS: Mapping[str, str] = {
    "agent_anchors": "one row an agent of ours",
    "agent_facts": "one row an agent",
    "agent_sides": "one row an agent, with at most 16 of its sides",
    "agent_tags": "the tags that operators and tokens give; they go with their agent",
    "agents": "hosts that were admitted, until an operator deletes them; tokens have uses and an end",
    "audit_entries": "`INGEST_AUDIT_KEEP`, none that is not signed in the files; what is left follows the anchor in `audit_head`",
    "audit_head": "one row",
    "authorities": "one row for each agent CA that ever was: leaves of old ones are still told apart",
    "carried_requests": "those that were answered, 32 days: older requests are refused for their age",
    "barred_keys": "one row for each decision of an operator that a key shall not come back",
    "check_changes": "one row an agent",
    "check_results": "the newest 1,000 of each check, pruned once a minute",
    "checks": "what operators define; they go with their agent",
    "collectors": "one row for each collector that runs; one that stopped, for `INGEST_SAMPLES_KEEP`",
    "counters": "a handful of rows",
    "endings": "7 days: every server has ended those connections long before",
    "gaps": "the newest 200 of each agent",
    "horizons": "one row for each resolution",
    "hurried": "one row for each agent that the latest hurry made to renew",
    "hurries": "one row",
    "installation": "one row",
    "item_refusals": "one row for each agent, kind and reason, with a count",
    "late_samples": "minutes: until they are added to their buckets",
    "leaves": "those of each agent that have not expired, two or three",
    "outboxes": "the few of each agent that were used last",
    "queries": "one day",
    "refusals": "one row for each key and reason; the newest 5,000 that showed a token, and 5,000 others",
    "removed_checks": "30 days",
    "rollups_due": "one row for each agent and hour that is to be rolled up",
    "samples": "`INGEST_SAMPLES_KEEP`, by whole days",
    "samples_1d": "`INGEST_SAMPLES_KEEP_1D`, by 364 days",
    "samples_1h": "`INGEST_SAMPLES_KEEP_1H`, by 28 days",
    "samples_1m": "`INGEST_SAMPLES_KEEP_1M`, by whole days",
    "series": "`INGEST_SERIES_PER_AGENT` live ones an agent; one that nobody delivers, for `INGEST_SERIES_KEEP` more",
    "sealed_keys": "a few while a rotation needs them; erased when what they sign for is retired",
    "server_cas": "one row for each server CA since the first step; the keys of retired ones are erased",
    "signing_keys": "one row for each key that ever signed agent tokens",
    "software_packages": "what is installed; what is gone, for 400 days",
    "status_history": "`INGEST_HISTORY_KEEP`, and the latest decision on each agent",
    "task_progress": "goes with its task; the output of one is capped",
    "tasks": "the newest 200 of each agent that ended, and a few open ones",
    "tokens": "live ones; others for `INGEST_TOKENS_KEEP` after they ended",
    "tombstones": "`INGEST_HISTORY_KEEP`; those of revoked agents for good, because they bar keys",
    "workers": "servers that run; one that died, for seconds",
}


def bounds_markdown() -> str:
    """Return the table of the documentation."""
    head = "| table | kept |\n|---|---|\n"
    return head + "".join(f"| `{table}` | {kept} |\n" for table, kept in sorted(BOUNDS.items()))
