"""What an operator may say about an enrolment token: checked whole, and brought into one form. Pure.

All problems are listed at once. A network with host bits set is refused with the network that was
probably meant, because both readings of ``10.1.2.3/16`` are somebody's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.model import Tag

MOST_USES = 1_000_000
_MOST_NETWORKS = 64
_MOST_TAGS = 64
_LABEL_CHARS = 100
_PATTERN_CHARS = 255
_TAG_KEY_CHARS = 100
_TAG_VALUE_CHARS = 500
_NEVER_IN_A_HOSTNAME = "/,;"


class TokenTermsError(ValueError):
    """Terms that cannot be meant. ``problems`` has a sentence for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def checked_terms(terms: TokenTerms, *, now: datetime, uses: int = 0) -> TokenTerms:
    """Return the terms with networks and pattern in their canonical form.

    Args:
        terms: as the operator said.
        now: what the end is compared with.
        uses: how often the token was redeemed already.

    Raises:
        TokenTermsError: something in them cannot be meant.
    """
    networks, network_problems = _networks(terms.networks)
    pattern = terms.hostname_pattern.strip()
    problems = (
        *_label_problems(terms.label),
        *_limit_problems(terms, now, uses),
        *network_problems,
        *_pattern_problems(pattern),
        *_tag_problems(terms.tags),
    )
    if problems:
        raise TokenTermsError(problems)
    return replace(terms, label=terms.label.strip(), networks=networks, hostname_pattern=pattern)


def _label_problems(label: str) -> Iterator[str]:
    if not label.strip():
        yield "label: say what the token is for"
    if len(label) > _LABEL_CHARS:
        yield f"label: at most {_LABEL_CHARS} characters"
    if not label.isprintable():
        yield "label: printable characters only"


def _limit_problems(terms: TokenTerms, now: datetime, uses: int) -> Iterator[str]:
    if terms.expires_at is not None and terms.expires_at <= now:
        yield f"expires: {terms.expires_at:%Y-%m-%dT%H:%M:%SZ} is past"
    if uses < 0:
        yield "uses: cannot be less than 0"
    if terms.max_uses is None:
        return
    if not 1 <= terms.max_uses <= MOST_USES:
        yield f"max uses: from 1 to {MOST_USES}"
    elif terms.max_uses < uses:
        yield f"max uses: {terms.max_uses} is less than the {uses} uses that it has already"


def _networks(texts: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the networks in canonical form, each once, and the problems of the others."""
    networks, problems = dict[str, None](), list[str]()
    for text in texts:
        try:
            networks[str(ipaddress.ip_network(text.strip()))] = None
        except ValueError:
            problems.append(f"network: {_network_problem(text.strip())}")
    if len(networks) > _MOST_NETWORKS:
        problems.append(f"network: at most {_MOST_NETWORKS}")
    return tuple(networks), problems


def _network_problem(text: str) -> str:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is no network; write it like 192.0.2.0/24 or 2001:db8::/32"
    address = text.partition("/")[0]
    return f"{text!r} has host bits set; write {meant} for that network, or {address} for that host alone"


def _pattern_problems(pattern: str) -> Iterator[str]:
    if len(pattern) > _PATTERN_CHARS:
        yield f"hostname: at most {_PATTERN_CHARS} characters"
    if not pattern.isprintable() or any(each.isspace() or each in _NEVER_IN_A_HOSTNAME for each in pattern):
        yield f"hostname: {pattern!r} can match no hostname; write one pattern like web-* or db-[0-9]?.example.com"
    elif pattern.count("[") > pattern.count("]"):
        yield f"hostname: {pattern!r} has a [ without its ]"


def _tag_problems(tags: Sequence[Tag]) -> Iterator[str]:
    if len(tags) > _MOST_TAGS:
        yield f"tag: at most {_MOST_TAGS}"
    for tag in tags:
        if not tag.key.strip() or not (tag.key + tag.value).isprintable():
            yield f"tag: {tag.key!r}:{tag.value!r} needs a key, and printable characters only"
        elif len(tag.key) > _TAG_KEY_CHARS or len(tag.value) > _TAG_VALUE_CHARS:
            yield f"tag: {tag.key[:20]!r}… has more than {_TAG_KEY_CHARS} characters, or its value {_TAG_VALUE_CHARS}"
