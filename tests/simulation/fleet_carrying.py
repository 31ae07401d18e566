"""Hosts without a network at first: a request is carried to the server, and the reply back; by the real code of both.

The operator who signs has compared the fingerprint of the key. What lies about on the stick is tried again later: the
same reply comes back as long as it is still good, and nobody else is admitted by it.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from ct_ops_agent.carried import Vouchers, install, judge_reply, make_request
from ct_ops_agent.errors import EnrolmentRefusedError as RefusedByAgentError
from ct_ops_agent.identity.carried_request import keep_open_request, load_open_requests
from ct_ops_agent.identity.credentials import CredentialStore
from ct_ops_agent.identity.keystore import keep_key_pair, load_key_pair
from ct_ops_proto.carried_enrolment import CarriedRequest
from ct_ops_server.edge.admin_carried import submission_of
from ct_ops_server.enrolment.carried import Invitation, Signed
from ct_ops_server.enrolment.model import EnrolmentRefusedError
from simulation.fleet_host import DAY_S, Host, facts_of, seeded_keys
from simulation.fleet_ledger import OPERATOR
from simulation.fleet_network import SPEAKER
from simulation.fleet_world import World


async def carry(world: World, dice: random.Random) -> None:
    """A host is enrolled by two files, gets its network, and its request is found and tried again."""
    number = len(world.hosts) + 1
    host = Host(world, f"host-{number:03d}", number, interval=timedelta(days=world.size.interval_days))
    host.folder.mkdir(mode=0o700)
    request = _request(host)
    world.hosts.append(host)
    await asyncio.sleep(dice.uniform(0, 5) * DAY_S)
    signed = await _sign(world, host, request)
    if signed is None:
        host.ended = "its request was never answered"
        return
    await asyncio.sleep(dice.uniform(0, 20) * DAY_S)
    store = CredentialStore(host.folder)
    keys = load_key_pair(host.folder)
    if keys is None or submission_of(request).application.key_id != keys.key_id:
        return  # installed anew meanwhile: the reply answers nothing that waits there
    waiting = load_open_requests(host.folder)
    await host.stop()  # somebody may have started it meanwhile: without an admission it reaches nobody
    try:
        admission = judge_reply(signed.reply, keys, waiting, Vouchers(), now_unix=host.wall())
    except RefusedByAgentError:  # a clock was far off when it was signed, or is now
        await world.invite(host)
        return
    install(host.folder, store, admission)
    host.start()
    await asyncio.sleep(dice.uniform(0, 60) * DAY_S)
    again = await _sign(world, host, request)
    if again is not None and again.reply.leaf_pem != signed.reply.leaf_pem:
        world.ledger.violated(f"the carried request of {host.name} was answered twice, with two leaves")


def _request(host: Host) -> CarriedRequest:
    keys = seeded_keys(host.dice)()
    keep_key_pair(host.folder, keys)
    request = make_request(
        keys,
        facts_of(host),
        (host.place.address,),
        (),
        agent_version="1.0.0",
        request_id=host.dice.randbytes(16),
        now_unix=host.wall(),
    )
    keep_open_request(host.folder, keys.key_id, request.request_id)
    return request


async def _sign(world: World, host: Host, request: CarriedRequest) -> Signed | None:
    """Have an operator sign it, as the host whose request it is; None when nothing is signed."""
    serving = world.network.serving
    if serving is None:
        return None
    spoken = SPEAKER.set(host.name)
    try:
        answer = await serving.carried.sign(submission_of(request), Invitation(approve=True), actor=OPERATOR)
    except EnrolmentRefusedError:
        return None
    finally:
        SPEAKER.reset(spoken)
    return answer if isinstance(answer, Signed) else None
