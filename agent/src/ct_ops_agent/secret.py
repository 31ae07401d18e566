"""Text that must not be seen: enrolment tokens, agent tokens, private keys.

A secret is shown by nothing but :meth:`Secret.reveal`, so that a log line, a traceback or a test
report with a whole configuration in it stays harmless. Who reveals one is found with a search.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Secret:
    """A value whose ``repr`` and ``str`` are masked."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __str__(self) -> str:
        return "<hidden>"
