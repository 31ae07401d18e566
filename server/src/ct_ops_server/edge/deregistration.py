"""The RPC by which a host takes itself off. Its key is proof, fresh and for this server; nothing else is.

It is open to callers without a valid leaf, for whoever leaves may have been away for long. An agent token or an
enrolment token, stolen or not, is of no use here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.public_key import KeyRefusedError, parse_public_key
from ct_ops_server.edge.identities import proves_departure
from ct_ops_server.edge.refusals import refuse
from ct_ops_server.edge.rpc import RpcGround, as_refused
from ct_ops_server.enrolment.departure import NotThisAgentsKeyError, QuarantinedError
from ct_ops_server.enrolment.model import EnrolmentRefusedError

if TYPE_CHECKING:
    from ct_ops_server.edge.rpc import Context

_log = logging.getLogger("ct_ops_server.agent_service")


class DeregistrationRpc:
    """The handler; bytes in, bytes out."""

    def __init__(self, ground: RpcGround) -> None:
        self._ground = ground
        self._parts = ground.parts

    async def deregister(self, raw: bytes, context: Context) -> bytes:
        """Revoke the agent that asks for it."""
        async with self._ground.ended("Deregister", context) as caller:
            message = self._ground.parse(raw, wire.DeregisterRequest)
            try:
                key = parse_public_key(message.public_key)
                proves_departure(message, key, self._parts)
                outcome = await self._parts.departures.leave(message.agent_id, key.key_id)
            except (KeyRefusedError, EnrolmentRefusedError) as refusal:
                raise as_refused(refusal) from refusal
            except NotThisAgentsKeyError:
                raise refuse("not_your_agent") from None
            except QuarantinedError:
                raise refuse("quarantined") from None
            # The id is only what somebody with a key of his own says, unless it was found.
            _log.info("Deregister from %s: the agent of key %s: %s", caller.address, key.key_id[:16], outcome)
            return wire.DeregisterResponse(status=outcome.value).SerializeToString()
