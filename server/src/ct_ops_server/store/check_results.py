"""Results of checks: stored once each, for the agent that the check belongs to.

Rules kept here:

* A result counts only from the agent whose check it is. ``not_yours``, ``unknown_check``, ``removed_check``
  and ``from_the_future`` are refusals: the agent may forget the result, the others of its batch are stored.
* A result that comes again (same check, same start) changes nothing.
* A late result never overwrites what is known from a newer one (``fleet.check_state``).
* Agents cannot fill the database: outputs are cut, of one check in one group only the newest are
  written, and a count in the check's own row tells when to prune. Nothing is counted or searched for it.

The rows of the checks are locked first, in one order: two workers do not wait for each other in a circle, and a
check that is removed meanwhile is not there or waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.check_model import KEPT_RESULTS, MAX_OUTPUT_CHARS, NO_CHECKS_ID
from ct_ops_server.fleet.check_state import Known, Run, newest_state
from ct_ops_server.fleet.items import CheckResult, CheckStatus, Owned
from ct_ops_server.store.check_tables import check_results, checks, removed_checks
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.upsert import insert_from

_DAY_MS = 86_400_000
_LONGEST_MS = 2**31 - 1
_CHECKS_PRUNED = 20
_ROWS_PRUNED = 5_000
"""Of each of those, in one transaction."""

_named = row_set("named", id=sa.Text())
_run = row_set(
    "run", check_id=sa.Text(), ran_at=Integer64, status=sa.Text(), output=sa.Text(), duration_ms=Integer64
)
_state = row_set(
    "state",
    id=sa.Text(),
    status=sa.Text(),
    since=Integer64,
    ran_at=Integer64,
    acknowledged_at=Integer64,
    stored=Integer64,
)

_LOCK = (
    sa.select(
        checks.c.id,
        checks.c.agent_id,
        checks.c.status,
        checks.c.since,
        checks.c.ran_at,
        checks.c.acknowledged_at,
        now_ms().label("now"),
    )
    .where(checks.c.id.in_(sa.select(_named.c.id)))
    .order_by(checks.c.id)
    .with_for_update()
)
_REMOVED = sa.select(removed_checks.c.id).where(removed_checks.c.id.in_(sa.select(_named.c.id)))
_UPDATE = (
    checks.update()
    .where(checks.c.id == _state.c.id)
    .values(
        status=_state.c.status,
        since=_state.c.since,
        ran_at=_state.c.ran_at,
        acknowledged_at=_state.c.acknowledged_at,
        kept=checks.c.kept + _state.c.stored,
    )
)


class CheckResults:
    """The item writer of check results."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store them; return for each why it was refused, None when it is stored (or already was)."""
        results = [_result_of(each) for each in owned]
        names = sorted({result.check_id for result in results})
        bound = bind_rows("named", [{"id": name} for name in names])
        rows = {row.id: row for row in await connection.execute(_LOCK, bound)}
        removed: set[str] = set()
        if len(rows) < len(names):
            removed = set(await connection.scalars(_REMOVED, bound))
        outcomes = [_refusal(each, rows, removed) for each in owned]
        accepted = [
            result
            for result, outcome in zip(results, outcomes, strict=True)
            if outcome is None and result.check_id in rows
        ]
        if accepted:
            await _store(connection, accepted, rows)
        return outcomes


def _result_of(each: Owned) -> CheckResult:
    assert isinstance(each.item, CheckResult)
    return each.item


def _refusal(each: Owned, rows: Mapping[str, Any], removed: set[str]) -> str | None:
    result = _result_of(each)
    if result.check_id == NO_CHECKS_ID:
        return None  # there is nothing to know from it, and nothing to complain of
    row = rows.get(result.check_id)
    if row is None:
        return "removed_check" if result.check_id in removed else "unknown_check"
    if row.agent_id != each.agent_id:
        return "not_yours"
    if result.ran_at_ms <= 0:
        return "malformed"
    return "from_the_future" if result.ran_at_ms > row.now + _DAY_MS else None


async def _store(
    connection: AsyncConnection, results: Sequence[CheckResult], rows: Mapping[str, Any]
) -> None:
    written = _newest_of_each(results)
    source = sa.select(*_run.c, now_ms().label("received_at"))
    insert = (
        insert_from(connection, check_results, source.selected_columns.keys(), source)
        .on_conflict_do_nothing(index_elements=["check_id", "ran_at"])
        .returning(check_results.c.check_id, check_results.c.ran_at)
    )
    bound = bind_rows("run", [_row(result) for result in written])
    new = {(row.check_id, row.ran_at) for row in await connection.execute(insert, bound)}
    states = _states([result for result in written if (result.check_id, result.ran_at_ms) in new], rows)
    if states:
        await connection.execute(_UPDATE, bind_rows("state", states))


def _newest_of_each(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return each run once, in one order everywhere, and of each check no more than are kept."""
    runs = {(result.check_id, result.ran_at_ms): result for result in reversed(results)}
    of_check: defaultdict[str, list[CheckResult]] = defaultdict(list)
    for _, result in sorted(runs.items()):
        of_check[result.check_id].append(result)
    return [result for runs_of_one in of_check.values() for result in runs_of_one[-KEPT_RESULTS:]]


def _row(result: CheckResult) -> dict[str, Any]:
    return {
        "check_id": result.check_id,
        "ran_at": result.ran_at_ms,
        "status": result.status.value,
        "output": result.output[:MAX_OUTPUT_CHARS],
        "duration_ms": min(max(result.duration_ms, 0), _LONGEST_MS),
    }


def _states(new: Sequence[CheckResult], rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    of_check: defaultdict[str, list[Run]] = defaultdict(list)
    for result in new:
        of_check[result.check_id].append(Run(result.status, result.ran_at_ms, rows[result.check_id].now))
    return [
        _state_row(check_id, newest_state(_known(rows[check_id]), runs), len(runs))
        for check_id, runs in of_check.items()
    ]


def _known(row: Any) -> Known | None:
    if row.status is None:
        return None
    return Known(Run(CheckStatus(row.status), row.ran_at, row.acknowledged_at), row.since)


def _state_row(check_id: str, state: Known, stored: int) -> dict[str, Any]:
    return {
        "id": check_id,
        "status": state.newest.status.value,
        "since": state.since_ms,
        "ran_at": state.newest.ran_at_ms,
        "acknowledged_at": state.newest.arrived_ms,
        "stored": stored,
    }


async def prune_chunk(connection: AsyncConnection, *, keep: int) -> int:
    """Forget all but the newest ``keep`` results of some checks that have too many; return how many went."""
    gone = 0
    too_many = sa.select(checks.c.id).where(checks.c.kept > keep + keep // 10).order_by(checks.c.id)
    for check_id in (await connection.scalars(too_many.limit(_CHECKS_PRUNED).with_for_update())).all():
        of_check = check_results.c.check_id == check_id
        older = (
            sa.select(check_results.c.ran_at)
            .where(of_check)
            .order_by(check_results.c.ran_at.desc())
            .offset(keep)
            .limit(_ROWS_PRUNED)
        )
        pruned = (
            await connection.execute(
                check_results.delete().where(of_check, check_results.c.ran_at.in_(older))
            )
        ).rowcount
        await connection.execute(
            checks.update().where(checks.c.id == check_id).values(kept=checks.c.kept - pruned)
        )
        gone += pruned
    return gone
