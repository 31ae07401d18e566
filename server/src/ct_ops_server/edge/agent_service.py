"""``agent.v1.IngestService``: the same methods for the lobby and for agents.

* ``rpc``           what all of them share: the caller, reading a message, refusing
* ``registration``  RegisterChallenge, Register, RenewCertificate
* ``deregistration``  Deregister
* ``heartbeats``    the Heartbeat stream
* ``renewals``      credentials renewed on it
* ``uploads``       SubmitSoftwareInventory

A method that is not built (Terminal) has no handler: gRPC answers UNIMPLEMENTED.
"""

from __future__ import annotations

import grpc

from ct_ops_server.edge.deregistration import DeregistrationRpc
from ct_ops_server.edge.heartbeats import HeartbeatRpc
from ct_ops_server.edge.registration import RegistrationRpcs
from ct_ops_server.edge.rpc import RpcGround, ServiceParts
from ct_ops_server.edge.uploads import UploadRpc

_SERVICE = "agent.v1.IngestService"


def agent_service(parts: ServiceParts, *, message_bytes: int) -> grpc.GenericRpcHandler:
    """Return what a gRPC server is given; lobby and agents differ in their size limit for messages."""
    ground = RpcGround(parts, message_bytes=message_bytes)
    registration, heartbeats = RegistrationRpcs(ground), HeartbeatRpc(ground)
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "RegisterChallenge": grpc.unary_unary_rpc_method_handler(registration.challenge),
        "Register": grpc.unary_unary_rpc_method_handler(registration.register),
        "RenewCertificate": grpc.unary_unary_rpc_method_handler(registration.renew),
        "Deregister": grpc.unary_unary_rpc_method_handler(DeregistrationRpc(ground).deregister),
        "SubmitSoftwareInventory": grpc.stream_unary_rpc_method_handler(UploadRpc(ground).serve),
        "Heartbeat": grpc.stream_stream_rpc_method_handler(heartbeats.serve),
    }
    return grpc.method_handlers_generic_handler(_SERVICE, methods)
