"""What operators do about the authorities of a simulated installation: one step a round, unless something speaks against it.

The agent CA and the key of agent tokens are rotated, in time or in a hurry, or by a CA that operators bring: with a
command, or named in the settings for the next start. The server's CA is changed. And a warning is heeded: a CA that
ends within half a year is rotated.
"""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.life_cycle import Kind, Step, TrustState
from ct_ops_server.authority.rotation import StepRefusedError
from ct_ops_server.authority.server_ca import StepError
from ct_ops_server.fleet.hurry import STEP_TOPIC, HurryState
from ct_ops_server.fleet.server_ca_desk import Step as ServerCaStep
from ct_ops_server.fleet.server_ca_desk import TooFewFollowError
from own_authority import OwnCa, make_ca
from simulation.fleet_ledger import OPERATOR

if TYPE_CHECKING:
    from simulation.fleet_world import World

_WARNED_BEFORE = timedelta(days=180)
_IMPATIENT = 0.2
"""How often operators force a switch of the server's CA that waits for agents, each time they look."""
_ROOT_DAYS = 20 * 365


def make_own_authority(world: World, dice: random.Random, *, renews: int | None = None) -> OwnCa:
    """Return an agent CA below a root of the operators', for one to nine years; or the one of a number, renewed."""
    now = datetime.fromtimestamp(world.wall(), UTC)  # theirs is another machine, whose clock is right
    number = world.number() if renews is None else renews
    root = make_ca(f"Own Root {number}", key=_key("root"), days=(-1, _ROOT_DAYS), now=now)
    days = (-1, dice.randint(365, 9 * 365))
    return make_ca(
        f"Own Agents {number}", above=root, key=_key(str(number)), path_length=0, days=days, now=now
    )


def own_number(own: OwnCa) -> int:
    """Return the number of an agent CA of the operators': whoever renews it keeps its name and its key."""
    return int(own.certificate.subject.rfc4514_string().rpartition(" ")[2])


async def go_on_with_authorities(world: World) -> None:
    """Take the next steps, and begin what a warning asks for."""
    serving = world.network.serving
    assert serving is not None
    signs, now = serving.trust.current.authority, world.installation.now()
    if signs.not_after - now < _WARNED_BEFORE or not _may_sign(signs.certificate, now):
        world.rotating.setdefault(Kind.CA, False)
    await _go_on_rotating(world)
    await _go_on_changing_server_ca(world)


async def _go_on_rotating(world: World) -> None:
    """Take the next step of every rotation that was begun, unless something speaks against it."""
    serving = world.network.serving
    assert serving is not None
    for kind, is_ruthless in list(world.rotating.items()):
        preview = await serving.authority.preview(kind, back=kind is Kind.CA and _is_of_another_time(world))
        step = preview.plan.step
        is_forced = is_ruthless and step is Step.RETIRE
        if preview.objections and not is_forced:
            await _hurry(world, kind, step)
            continue
        brought = world.brought if (kind, step) == (Kind.CA, Step.PREPARE) else None
        with suppress(
            StepRefusedError, AuthorityError
        ):  # also when forced: a CA is of another time than this clock
            await serving.authority.take(
                kind,
                step,
                version=preview.version,
                actor=OPERATOR,
                force=is_forced,
                brought=None if brought is None else (brought.pem, brought.key_pem),
            )
            await serving.trust_watch.catch_up()
            world.brought = None if brought is not None else world.brought
            if step is Step.RETIRE:
                del world.rotating[kind]
                world.must_hurry = world.must_hurry and kind is not Kind.CA


def _is_of_another_time(world: World) -> bool:
    """Tell whether the agent CA that signs was made while the server's clock was years away, and the one before can sign."""
    serving, now = world.network.serving, world.installation.now()
    assert serving is not None
    trust = serving.trust.current
    outgoing = [each for each in trust.authorities if each.state is TrustState.OUTGOING]
    return not _may_sign(trust.authority.certificate, now) and any(
        _may_sign(each.certificate, now) for each in outgoing
    )


def _may_sign(authority: x509.Certificate, now: datetime) -> bool:
    return authority.not_valid_before_utc <= now < authority.not_valid_after_utc


async def _hurry(world: World, kind: Kind, step: Step) -> None:
    """Have agents renew now, where that is what a rotation waits for; look after those who did not come back."""
    serving, hurries = world.network.serving, world.installation.hurries
    assert serving is not None
    if kind is not Kind.CA or step is not Step.RETIRE or not world.must_hurry:
        return
    found = await hurries.hurry()
    if found is None or found.state is not HurryState.RUNNING:
        await hurries.start_hurry(actor=OPERATOR)
        serving.bus.hint(STEP_TOPIC)


async def _go_on_changing_server_ca(world: World) -> None:
    """Take the next step of a change of the server's CA, unless too few agents could follow."""
    serving = world.network.serving
    assert serving is not None
    if not world.server_ca_steps:
        return
    step, newest = world.server_ca_steps[0], serving.served_tls.current.anchors[0]
    # Whoever is in the way may be gone: an operator who has looked on every host does not wait for agents of the past.
    knows_better = step is ServerCaStep.RETIRE and all(host.believes(newest) for host in world.honest())
    if step is ServerCaStep.RETIRE and world.installation.restores and not knows_better:
        return  # a server that was restored counts only those that it knows
    with suppress(TooFewFollowError, StepError, AuthorityError):  # the last: the clock is wrong, it says
        # The cross-certificate keeps everybody connected, so nobody need wait with the switch for those who sleep.
        is_impatient = step is ServerCaStep.ACTIVATE and world.dice.random() < _IMPATIENT
        await serving.server_ca.take(step, force=knows_better or is_impatient, actor=OPERATOR)
        world.server_ca_steps.pop(0)
        serving.follower.look()


@cache
def _key(_name: str) -> ec.EllipticCurvePrivateKey:
    """Return a key, the same one for all histories: a certificate is new, and that makes the CA."""
    return ec.generate_private_key(ec.SECP256R1())
