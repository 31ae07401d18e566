"""The sample of ``/etc/ct-ops/server.env``: every variable with its meaning and its default, commented out.

Printed from the table of variables, so that it knows each of them and nothing else.
"""

from __future__ import annotations

import textwrap

from ct_ops_server.config.variables import DATA_DIR_MARK, DEFAULT_DATA_DIR, VARIABLES, Variable

_WIDTH = 100
_HEAD = """\
# The settings of the CT-Ops server. Every variable is here, with its default, commented out: remove the # of
# what you change, then restart the server. `ct-ops-server config check` tells every mistake, `config show`
# what is in effect. KEY=VALUE, with single quotes around a value that has spaces or quotes.
"""


def sample_env() -> str:
    """Return the text of the file."""
    return "\n".join((_HEAD, *map(_entry, VARIABLES)))


def _entry(variable: Variable) -> str:
    said = [variable.doc, f"Accepts {_plain(variable.accepts)}."]
    if variable.default is None:
        said.append(f"Unset: {_plain(variable.without)}.")
    if variable.secret:
        said.append(f"{variable.name}_FILE instead names a file that holds it.")
    default = (variable.default or "").replace(DATA_DIR_MARK, DEFAULT_DATA_DIR)
    return "\n".join((*_comment(" ".join(map(_plain, said))), f"#{variable.name}={default}", ""))


def _comment(text: str) -> list[str]:
    return [
        f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    ]


def _plain(text: str) -> str:
    return text.replace("`", "").replace(DATA_DIR_MARK, DEFAULT_DATA_DIR)
