"""Verdict: how one run of a check went, in words that may be sent and shown."""

from __future__ import annotations

from dataclasses import dataclass

from ct_ops_agent.work import CheckStatus

MAX_OUTPUT_CHARS = 16_384
"""A certificate report with a long chain needs a quarter of it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found."""

    status: CheckStatus
    output: str


def passed(output: str) -> Verdict:
    """Return that all is as it should be."""
    return Verdict(CheckStatus.PASS, clean(output))


def failed(output: str) -> Verdict:
    """Return that something is not as it should be."""
    return Verdict(CheckStatus.FAIL, clean(output))


def undone(output: str) -> Verdict:
    """Return that the check could not be done: nothing is known about what it looks at."""
    return Verdict(CheckStatus.ERROR, clean(output))


def clean(text: str) -> str:
    """Return text that may be sent: bounded, no control characters. Peers and files have a say in it."""
    if len(text) > MAX_OUTPUT_CHARS:
        text = text[: MAX_OUTPUT_CHARS - 1] + "…"
    return "".join(character if character.isprintable() else " " for character in text)


def reason(error: BaseException) -> str:
    """Return what went wrong in the words of the system, without Python's."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
