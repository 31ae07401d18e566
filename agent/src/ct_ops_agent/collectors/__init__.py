"""The built-in collectors: one closed drawer each, imported only when it runs.

Names are those of ``[collectors.NAME]``; values are "module:Class" in this package. Which of them run by
default stands here as well, so that the daemon need not import the others to find out; a test compares it
with what each says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping

ON_BY_DEFAULT: Mapping[str, str] = {
    "uptime": "uptime:Uptime",
}

OFF_BY_DEFAULT: Mapping[str, str] = {
    "textfile": "ct_ops_agent.foreign.textfile:TextFiles",
}

BUILT_IN: Mapping[str, str] = {**ON_BY_DEFAULT, **OFF_BY_DEFAULT}
