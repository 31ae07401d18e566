"""In which order gRPC is given the CAs that are believed.

gRPC takes the first CA with the name that a certificate was issued by, and never a second one. An organisation that
renews its root under the same name has two of one name for years, and the first that ends, or has not begun,
would keep this agent out although the other one is good. So those that are valid now come first.

The dates are read here and not with ``cryptography``, which costs ten megabytes for as long as the agent runs. What
cannot be read stays where it is: whether it is to be believed is decided by TLS, by the same clock.
"""

import calendar
import re
import time

from ct_ops_agent.identity.keystore import parse_pem, to_pem

_SEQUENCE = 0x30
_VERSION = 0xA0
_UTC_TIME = 0x17
_TIMES = {_UTC_TIME: 6, 0x18: 8}
"""The kinds of a time, and how many digits their day has."""
_DIGITS = re.compile(rb"[0-9]{12,14}Z")
_CENTURY_BEGINS = 50
_LONG_FORM = 0x80


def in_order(roots_pem: str, now_unix: float) -> str:
    """Return a trust bundle with the certificates first that are valid at this moment."""
    ders = [der for label, der in parse_pem(roots_pem) if label == "CERTIFICATE"]
    ordered = sorted(ders, key=lambda der: not _may_be_valid(der, now_unix))
    if ordered == ders:
        return roots_pem
    return "".join(to_pem("CERTIFICATE", der) for der in ordered)


def validity_of(der: bytes) -> tuple[int, int] | None:
    """Return when a certificate begins and ends, in Unix seconds; None: it does not say so in a form that we know."""
    try:
        content = _Reader(_Reader(_Reader(der).take(_SEQUENCE)).take(_SEQUENCE))
        content.skip(_VERSION)
        for _ in ("serial number", "algorithm", "issuer"):
            content.take()
        dates = _Reader(content.take(_SEQUENCE))
        return _time(*dates.next()), _time(*dates.next())
    except (ValueError, IndexError):
        return None


def _may_be_valid(der: bytes, now_unix: float) -> bool:
    dates = validity_of(der)
    return dates is None or dates[0] <= now_unix <= dates[1]


def _time(kind: int, text: bytes) -> int:
    if kind not in _TIMES or not _DIGITS.fullmatch(text):
        raise ValueError("no time")
    day = text[: _TIMES[kind]].decode()
    if kind == _UTC_TIME:
        day = ("19" if int(day[:2]) >= _CENTURY_BEGINS else "20") + day
    moment = day + text[_TIMES[kind] : -1].decode()
    return calendar.timegm(time.strptime(moment, "%Y%m%d%H%M%S"))


class _Reader:
    """Reads values of DER one after the other. Raises ``IndexError`` or ``ValueError`` where there is none."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def next(self) -> tuple[int, bytes]:
        """Return the kind and the content of the next value."""
        kind, length, begin = self._content[self._at], self._content[self._at + 1], self._at + 2
        if length & _LONG_FORM:
            size = length & ~_LONG_FORM
            length = int.from_bytes(self._content[begin : begin + size], "big")
            begin += size
        if begin + length > len(self._content):
            raise ValueError("cut off")
        self._at = begin + length
        return kind, self._content[begin : self._at]

    def take(self, kind: int | None = None) -> bytes:
        """Return the content of the next value, which is of this kind."""
        found, content = self.next()
        if kind is not None and found != kind:
            raise ValueError("another kind")
        return content

    def skip(self, kind: int) -> None:
        """Pass over the next value if it is of this kind."""
        if self._content[self._at] == kind:
            self.next()
