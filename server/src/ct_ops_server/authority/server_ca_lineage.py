"""The server CAs of an installation, from the first one on, and what each of them is now. Pure.

A *lineage* is a whole: it has a version, each step makes the next one, and nodes and files exchange nothing smaller.
What is public is kept for good; a private key, sealed, while its server CA lives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes

MOST_ANCHORS = 8
"""Agents believe no more at once."""


class Role(StrEnum):
    """What a server CA does."""

    SIGNS = "signs"
    NEXT = "next"
    BEFORE = "before"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Member:
    """One server CA."""

    number: int
    """The first one is 1; none is given twice."""
    role: Role
    certificate: x509.Certificate
    cross: x509.Certificate | None = None
    """Its key, vouched for by another one."""
    sealed_key: bytes | None = field(default=None, repr=False)
    """PEM under the installation's secret; None: it is not here, or erased."""
    by_time: bool = False
    """It signs because time had come; an operator's word is not undone by a clock."""

    @property
    def sha256(self) -> bytes:
        """What agents call it in their reports."""
        return self.certificate.fingerprint(hashes.SHA256())

    def is_valid(self, now: datetime) -> bool:
        """Return whether somebody with this clock can believe it."""
        return self.certificate.not_valid_before_utc <= now < self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Lineage:
    """All of them."""

    version: int
    """0: no step was ever taken."""
    members: tuple[Member, ...]
    """By number."""

    @property
    def signs(self) -> Member:
        """The one whose turn it is."""
        return next(each for each in self.members if each.role is Role.SIGNS)

    @property
    def following(self) -> Member | None:
        """The one that is prepared."""
        return next((each for each in self.members if each.role is Role.NEXT), None)

    @property
    def before(self) -> tuple[Member, ...]:
        """Those that signed earlier and are not retired, newest first."""
        return tuple(each for each in reversed(self.members) if each.role is Role.BEFORE)

    @property
    def live(self) -> tuple[Member, ...]:
        """Those that are not retired: the one that signs, the next one, those before."""
        following = () if self.following is None else (self.following,)
        return (self.signs, *following, *self.before)

    def announced(self, now: datetime) -> tuple[Member, ...]:
        """Return what agents shall believe: of those before only what has not ended."""
        return tuple(
            each
            for each in self.live
            if each.role is not Role.BEFORE or now < each.certificate.not_valid_after_utc
        )

    def find(self, sha256: bytes) -> Member | None:
        """Return the one with this digest."""
        return next((each for each in self.members if each.sha256 == sha256), None)

    def is_of_the_same(self, other: Lineage) -> bool:
        """Return whether one grew out of the other: whoever signs in one is known in both."""
        return self.find(other.signs.sha256) is not None or other.find(self.signs.sha256) is not None

    def says_the_same(self, other: Lineage) -> bool:
        """Return whether both have the same server CAs in the same roles; how keys are sealed is no matter."""
        return [_essence(each) for each in self.members] == [_essence(each) for each in other.members]

    def changed(self, *changed: Member) -> Lineage:
        """Return the next version, with these in the place of those with their numbers, or beside them."""
        by_number = {each.number: each for each in (*self.members, *changed)}
        members = tuple(by_number[number] for number in sorted(by_number))
        return Lineage(self.version + 1, tuple(map(_without_needless_key, members)))


def changes_of_role(old: Lineage, new: Lineage) -> Iterator[Member]:
    """Yield those of ``new`` that do something else than in ``old``, or were not there."""
    for member in new.members:
        known = old.find(member.sha256)
        if known is None or known.role is not member.role:
            yield member


def _without_needless_key(member: Member) -> Member:
    return replace(member, sealed_key=None) if member.role is Role.RETIRED else member


def _essence(member: Member) -> tuple[object, ...]:
    return member.number, member.role, member.certificate, member.cross, member.by_time
