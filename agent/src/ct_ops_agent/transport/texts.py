"""Texts that cross the wire, made harmless: what may be shown, and what protobuf can carry."""

_LONGEST_TEXT = 300


def printable(text: str) -> str:
    """Return text that may be shown: one line, no control characters, bounded."""
    shown = "".join(character if character.isprintable() else " " for character in text[: _LONGEST_TEXT + 1])
    return shown if len(shown) <= _LONGEST_TEXT else shown[:_LONGEST_TEXT] + "…"


def storable(text: str) -> str:
    """Return text that protobuf can carry: names on a host may be bytes that are no UTF-8."""
    return text.encode(errors="replace").decode()
