"""The templates in ``bundles/``, and how their places are filled.

A place looks like ``@ADDRESS@``. All are filled in one pass, so what a value holds is never taken for a place;
a place without value, or a value without place, is a mistake of ours and stops here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_PLACE = re.compile(r"@([A-Z][A-Z0-9_]*)@")


class TemplateError(ValueError):
    """Places and values do not fit together."""


def template(name: str) -> str:
    """Return a template of ``bundles/`` as it is written."""
    return (_folder() / name).read_text()


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a template with each place filled.

    Raises:
        TemplateError: places and values are not the same.
    """
    places = set(_PLACE.findall(text))
    if places != set(values):
        raise TemplateError(f"places and values differ in {', '.join(sorted(places ^ set(values)))}")
    return _PLACE.sub(lambda place: values[place[1]], text)


@cache
def _folder() -> Path:
    """Return where the templates are: in the installed package, else in the source tree."""
    package = Path(__file__).parents[1]
    installed = package / "bundles"
    return installed if installed.is_dir() else package.parents[2] / "bundles"
