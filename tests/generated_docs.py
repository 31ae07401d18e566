"""Parts of the documentation that are printed from the code: `make docs` rewrites them.

In a page, what stands between these two lines is generated, the rest is written by hand:

    <!-- generated: NAME -->
    <!-- end -->

``SECTIONS`` says which function prints NAME. A new table needs a function that returns Markdown, beside
what it describes, a line in ``SECTIONS``, and the two markers in any page under ``docs/`` or in the README.
``tests/unit/docs/test_generated.py`` fails when a page says something else than the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ct_ops_agent.config.collector_pages import collectors_markdown
from ct_ops_agent.config.document import keys_markdown
from ct_ops_proto.check_document import check_types_markdown
from ct_ops_server.audit.decisions import actions_markdown
from ct_ops_server.authority import life_cycle, starting
from ct_ops_server.config.document import deferred_markdown, variables_markdown
from ct_ops_server.enrolment.admission import table_markdown
from ct_ops_server.enrolment.remedies import remedies_markdown
from ct_ops_server.fleet import health, item_reasons
from ct_ops_server.fleet.task_document import task_states_markdown, task_table_markdown
from ct_ops_server.store.bounds import bounds_markdown
from reference_pages import (
    agent_commands_markdown,
    load_test_commands_markdown,
    metrics_markdown,
    server_commands_markdown,
)

ROOT = Path(__file__).parent.parent

SECTIONS: Mapping[str, Callable[[], str]] = {
    "admission": table_markdown,
    "audit-actions": actions_markdown,
    "agent-commands": agent_commands_markdown,
    "agent-keys": keys_markdown,
    "authority-starts": starting.rules_markdown,
    "authority-states": life_cycle.states_markdown,
    "authority-steps": life_cycle.steps_markdown,
    "check-types": check_types_markdown,
    "collectors": collectors_markdown,
    "degraded-reasons": health.reasons_markdown,
    "load-test-commands": load_test_commands_markdown,
    "item-refusals": item_reasons.reasons_markdown,
    "metrics": metrics_markdown,
    "refusals": remedies_markdown,
    "retention": bounds_markdown,
    "server-commands": server_commands_markdown,
    "server-variables": variables_markdown,
    "task-states": task_states_markdown,
    "task-table": task_table_markdown,
    "server-variables-without-effect": deferred_markdown,
}

_END = "<!-- end -->"
_MARKER = re.compile(r"^<!-- (?:generated: (?P<name>[^\n]*?)|(?P<end>end)) -->$", re.MULTILINE)


_PART = re.compile(
    f"^(?P<begin><!-- generated: (?P<name>[^\\n]*?) -->\\n).*?^{_END}$", re.MULTILINE | re.DOTALL
)


class MarkerError(Exception):
    """Markers that cannot be meant; ``str()`` says which."""


def pages() -> Iterator[Path]:
    """Yield the pages that may have generated parts."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def names_in(page: str) -> list[str]:
    """Return the names of the generated parts of a page, in order.

    Raises:
        MarkerError: one has no end, or an end no beginning.
    """
    names, is_open = list[str](), False
    for marker in _MARKER.finditer(page):
        if (marker["end"] is not None) != is_open:
            raise MarkerError(
                f"{marker[0]} is out of place: every beginning needs its end, before the next one"
            )
        if not is_open:
            names.append(marker["name"])
        is_open = not is_open
    if is_open:
        raise MarkerError(f"<!-- generated: {names[-1]} --> has no {_END}")
    return names


def rewritten(page: str, sections: Mapping[str, Callable[[], str]] = SECTIONS) -> str:
    """Return a page with its generated parts as the code has them now.

    Raises:
        MarkerError: a part is not closed, or nothing prints it.
    """
    if unknown := set(names_in(page)) - set(sections):
        raise MarkerError(
            f"nothing generates {', '.join(sorted(unknown))}; there are: {', '.join(sorted(sections))}"
        )
    return _PART.sub(lambda part: f"{part['begin']}\n{sections[part['name']]().strip()}\n\n{_END}", page)


if __name__ == "__main__":
    for path in pages():
        before = path.read_text()
        after = rewritten(before)
        if after != before:
            path.write_text(after)
