"""The options that say what an enrolment token is good for: the same for ``token create`` and ``import``.

What they mean, and whether it can be meant, is for ``enrolment.token_terms`` to judge; here they only get
the form of a request's body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ct_ops_server.config.duration import parse_duration

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--label", required=True, help="What the token is for."),
    click.option("--auto-approve", is_flag=True, help="Admit without an operator's approval."),
    click.option(
        "--max-uses",
        type=click.IntRange(1, 1_000_000),
        help="How many hosts it admits (default: any number).",
    ),
    click.option("--expires", metavar="DURATION", help="30s, 5m, 12h or 7d (default: never)."),
    click.option(
        "--tag", "tags", multiple=True, metavar="K:V", help="Put on every admitted agent; repeatable."
    ),
    click.option("--network", "networks", multiple=True, metavar="CIDR", help="Only from there; repeatable."),
    click.option(
        "--hostname", "hostname_pattern", default="", metavar="PATTERN", help="Only hosts like web-*."
    ),
)


def terms_options(command: _Command) -> _Command:
    """Give a command the options; it gets them as keywords for ``terms_body``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def terms_body(
    *,
    label: str,
    auto_approve: bool,
    max_uses: int | None,
    expires: str | None,
    tags: tuple[str, ...],
    networks: tuple[str, ...],
    hostname_pattern: str,
) -> dict[str, Any]:
    """Return what was said, as the admin API reads it.

    Raises:
        click.BadParameter: a duration or a tag has another form.
    """
    return {
        "label": label,
        "auto_approve": auto_approve,
        "max_uses": max_uses,
        "expires_in_s": None if expires is None else seconds_of(expires),
        "tags": tags_of(tags),
        "networks": list(networks),
        "hostname_pattern": hostname_pattern,
    }


def seconds_of(text: str) -> float:
    """Return what an operator wrote after --expires, in seconds."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}", param_hint="--expires") from error


def tags_of(texts: tuple[str, ...]) -> dict[str, str]:
    """Return what an operator wrote after --tag, each key once."""
    tags = dict[str, str]()
    for text in texts:
        key, separator, value = (part.strip() for part in text.partition(":"))
        if not separator or not key:
            raise click.BadParameter(f"{text!r} is no key:value", param_hint="--tag")
        if tags.setdefault(key, value) != value:
            raise click.BadParameter(
                f"{key!r} has two values, {tags[key]!r} and {value!r}; a tag has one", param_hint="--tag"
            )
    return tags
