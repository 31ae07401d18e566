"""Words for a POSIX shell: whatever a text holds, the shell sees that text and runs nothing of it. Pure.

Everything is quoted, always, and by one rule: single quotes, in which nothing means anything but the single
quote itself (POSIX 2.2.2). A script of an existing server pastes its values in as they are, and so runs them.
"""

from __future__ import annotations


class UnquotableError(ValueError):
    """A text that no shell can hold."""

    def __init__(self) -> None:
        super().__init__("a NUL, or half of a character, fits in no shell word")


def quoted(text: str) -> str:
    """Return one word of a POSIX shell that means ``text``.

    Raises:
        UnquotableError: it holds a NUL, or is no Unicode text.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnquotableError from error
    if "\0" in text:
        raise UnquotableError
    return "'" + text.replace("'", "'\\''") + "'"
