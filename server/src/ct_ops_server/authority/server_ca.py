"""The server CAs of this installation: which one signs, which one comes next, which ones were before.

Agents believe a server CA, so it cannot simply be replaced. A new one goes through three steps:

* **prepare**: it is made, and announced to agents beside the old one; nothing is signed by it yet;
* **activate**: it signs the server's certificate. *Cross-certificates* in the TLS chain (``server_ca_chain``) lead
  whoever believes an older one to it, until that one's own end, also existing agents;
* **retire**: those before are announced no more, so agents forget them. At its end that happens by itself.

What time does by itself (``due``): the next one is prepared 400 days before the end, and activated 90 days before it
when everybody is led to it, else on the last three days, when nobody has anything to lose. Clocks are wrong at times,
by years: what is made is dated back to the beginning of the one that signs, so it is valid whenever that one is; and
where a step of time's left somebody out, an earlier one signs again (**go back**) once the clock says that it was early.

A step is pure: it makes the next version of a ``Lineage``, of which this module neither reads nor writes a file.
Left to others: files (``server_ca_files``), other nodes and the audit log (``fleet.shared_server_cas``), and whether
enough of the fleet can follow (``fleet.following``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from ct_ops_server.authority.root import (
    Root,
    RootName,
    generate_key,
    load_or_create_root,
    make_root_certificate,
)
from ct_ops_server.authority.sealing import SealingSecret, seal
from ct_ops_server.authority.server_ca_chain import (
    PATH_LENGTH,
    Chain,
    chain_of,
    left_out,
    make_cross_certificate,
    may_vouch,
)
from ct_ops_server.authority.server_ca_files import Vault, read_lineage, stem
from ct_ops_server.authority.server_ca_lineage import MOST_ANCHORS, Lineage, Member, Role

PREPARE_BELOW = timedelta(days=400)
ACTIVATE_BELOW = timedelta(days=90)
ACTIVATE_ALONE_BELOW = timedelta(days=3)
_YOUNGER_BY = timedelta(seconds=1)


class StepError(Exception):
    """This step does not follow now. ``str()`` says what does."""


class Turn(StrEnum):
    """What becomes of server CAs."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    RETIRE = "retire"
    GO_BACK = "go-back"
    """Only time does this."""


@dataclass(frozen=True, slots=True)
class ServerCas:
    """Those that matter now."""

    signs: Root
    """The one whose turn it is; while that one is not valid by this clock, another one that is."""
    announced: tuple[x509.Certificate, ...]
    """What agents shall believe, the one that signs first."""
    crosses: tuple[x509.Certificate, ...]
    """The chain above the server's certificate."""
    lineage: Lineage
    made: tuple[str, ...] = ()

    def look_again_at(self) -> datetime:
        """Return when time next changes something here."""
        ends = (each.not_valid_after_utc for each in (*self.announced, *self.crosses))
        return min(ends)


def open_server_cas(data_dir: Path, secret: SealingSecret, *, now: datetime) -> ServerCas:
    """Return the server CAs, making the first one. No step is taken.

    Raises:
        WrongSecretError: a key is sealed with another secret.
        AuthorityError: a file is damaged or unreadable, or none of them is valid now.
    """
    found, made = read_lineage(data_dir), tuple[str, ...]()
    if found is None or found.version == 0:
        made = load_or_create_root(data_dir, _name(1), secret, now=now).made
        found = read_lineage(data_dir)
    assert found is not None
    signer = signer_of(found, now)
    root = Vault(data_dir, secret).root_of(signer)
    root.check_dates(now)
    others = (each for each in found.announced(now) if each != signer)
    return ServerCas(
        signs=root,
        announced=(signer.certificate, *(each.certificate for each in others)),
        crosses=chain_of(found, signer, now).crosses,
        lineage=found,
        made=made,
    )


def signer_of(lineage: Lineage, now: datetime) -> Member:
    """Return the one that signs at this moment: never one that nobody can believe now while another could be."""
    candidates = (lineage.signs, *lineage.before, *filter(None, (lineage.following,)))
    usable = (each for each in candidates if each.is_valid(now) and each.sealed_key is not None)
    return next(usable, lineage.signs)


def due(lineage: Lineage, *clocks: datetime) -> Turn | None:
    """Return what time has come for, by all clocks that there are: one that is wrong moves nothing alone."""
    earliest, latest = min(clocks), max(clocks)
    end, following = lineage.signs.certificate.not_valid_after_utc, lineage.following
    if _was_early(lineage, latest):
        return Turn.GO_BACK
    # After its end nothing is prepared any more: rather the clock is wrong, and agents would be lost for it.
    if following is None and latest < end and end - earliest < PREPARE_BELOW:
        return Turn.PREPARE
    if following is not None and following.is_valid(earliest) and earliest >= activated_at(lineage):
        return Turn.ACTIVATE
    return None


def activated_at(lineage: Lineage) -> datetime:
    """Return when the next one signs without being asked to."""
    end = lineage.signs.certificate.not_valid_after_utc
    return end - (ACTIVATE_BELOW if leads_everybody(lineage, end - ACTIVATE_BELOW) else ACTIVATE_ALONE_BELOW)


def leads_everybody(lineage: Lineage, now: datetime) -> bool:
    """Return whether nobody is cut off at once when the next one signs."""
    later, chain = after_activation(lineage, now)
    return not left_out(later, chain, now)


def after_activation(lineage: Lineage, now: datetime) -> tuple[Lineage, Chain]:
    """Return what there is once the next one signs, and the chain that leads to it."""
    following = lineage.following
    if following is None:
        return lineage, chain_of(lineage, lineage.signs, now)
    later = _activated(lineage, following, by_time=False)
    return later, chain_of(later, later.signs, now)


def prepare(lineage: Lineage, vault: Vault, *, now: datetime) -> Lineage:
    """Make the next one.

    Raises:
        StepError: there is one already, or agents could not believe it beside the others.
        AuthorityError: the key of the one that signs is not here.
    """
    if lineage.following is not None:
        raise StepError("the next server CA is prepared already; what follows is to activate it")
    if len(lineage.announced(now)) >= MOST_ANCHORS:
        raise StepError(
            f"{MOST_ANCHORS} server CAs are announced, and agents believe no more at once; what follows is to retire those "
            "before, or to wait until one has ended"
        )
    signs, number, key = lineage.signs.certificate, lineage.members[-1].number + 1, generate_key()
    # As old as the one that signs, and a second younger: valid whenever that one is, and told apart by age.
    begins = signs.not_valid_before_utc + _YOUNGER_BY
    certificate = make_root_certificate(key, _name(number), now=now, begins=begins)
    root = Root(vault.data_dir / f"{stem(number)}.crt", certificate, key)
    vouched = may_vouch(signs) and lineage.signs.is_valid(now)
    cross = make_cross_certificate(vault.root_of(lineage.signs), root) if vouched else None
    return lineage.changed(Member(number, Role.NEXT, certificate, cross, seal(key, vault.secret)))


def activate(lineage: Lineage, *, now: datetime, by_time: bool = False) -> Lineage:
    """Let the next one sign.

    Raises:
        StepError: none is prepared, or by this clock it is not valid.
    """
    following = lineage.following
    if following is None:
        raise StepError("no next server CA is prepared; what follows is to prepare one")
    if not following.is_valid(now):
        begins, ends = following.certificate.not_valid_before_utc, following.certificate.not_valid_after_utc
        raise StepError(
            f"the next server CA is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, and this host's clock says "
            f"{now:%Y-%m-%d}: set the clock, or wait"
        )
    return _activated(lineage, following, by_time=by_time)


def retire(lineage: Lineage) -> Lineage:
    """Have agents forget those that were before, and erase their private keys.

    Raises:
        StepError: none is left.
    """
    if not lineage.before:
        raise StepError("there is no earlier server CA that agents still believe")
    return lineage.changed(*(replace(each, role=Role.RETIRED) for each in lineage.before))


def go_back(lineage: Lineage, vault: Vault, *, now: datetime) -> Lineage:
    """Let the one before sign again. Who came to believe only the later one is led to it by that one.

    Raises:
        StepError: there is none that could.
        AuthorityError: a key is not here.
    """
    target, signs = _way_back(lineage, now), lineage.signs
    if target is None:
        raise StepError("there is no earlier server CA that could sign again")
    cross = target.cross
    if not chain_of(lineage, target, now).crosses and may_vouch(signs.certificate):
        cross = make_cross_certificate(vault.root_of(signs), vault.root_of(target))
    waits = Role.NEXT if lineage.following is None else Role.BEFORE
    again = replace(target, role=Role.SIGNS, cross=cross, by_time=False)
    return lineage.changed(replace(signs, role=waits, by_time=False), again)


def _activated(lineage: Lineage, following: Member, *, by_time: bool) -> Lineage:
    return lineage.changed(
        replace(lineage.signs, role=Role.BEFORE, by_time=False),
        replace(following, role=Role.SIGNS, by_time=by_time),
    )


def _was_early(lineage: Lineage, now: datetime) -> bool:
    """Return whether the one that signs should not yet, by any clock, and it costs somebody that it does."""
    target, signs = _way_back(lineage, now), lineage.signs
    if target is None:
        return False
    if now < signs.certificate.not_valid_before_utc:
        return True
    if not signs.by_time or not left_out(lineage, chain_of(lineage, signs, now), now):
        return False
    was_due = activated_at(_as_it_was(lineage, target))
    return now < was_due


def _as_it_was(lineage: Lineage, target: Member) -> Lineage:
    signs = replace(lineage.signs, role=Role.NEXT, by_time=False)
    return lineage.changed(signs, replace(target, role=Role.SIGNS))


def _way_back(lineage: Lineage, now: datetime) -> Member | None:
    return next((each for each in lineage.before if each.is_valid(now) and each.sealed_key is not None), None)


def _name(number: int) -> RootName:
    return RootName(
        stem(number),
        "CT-Ops Server CA",
        "a server CA, which agents pin; it is good for ten years",
        key_in_name=True,
        path_length=PATH_LENGTH,
    )
