"""One virtual agent: a key in memory, a Register, and frames on one stream of its own connection."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from ct_ops_proto.agent.v1 import ingest_pb2 as wire

_SERVICE = "/agent.v1.IngestService"
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
_DEADLINE_S = 60.0


class NotServedError(Exception):
    """The server answered, but not with what an agent needs. Counted by its sentence."""


@dataclass(frozen=True)
class Target:
    """The server under test."""

    address: str
    ca_pem: bytes = field(repr=False)
    token: str = field(repr=False)


class VirtualAgent:
    """Enrols, connects, and beats."""

    def __init__(self, target: Target, hostname: str) -> None:
        self._target = target
        self._hostname = hostname
        self._key = Ed25519PrivateKey.generate()
        self._reply = wire.RegisterResponse()
        self._channel: grpc.aio.Channel | None = None

    async def register(self) -> None:
        """Register on a connection of its own; the token must approve by itself.

        Raises:
            grpc.aio.AioRpcError: it was refused.
            NotServedError: it was not approved.
        """
        credentials = grpc.ssl_channel_credentials(self._target.ca_pem)
        async with grpc.aio.secure_channel(self._target.address, credentials, _OPTIONS) as channel:
            call = channel.unary_unary(
                f"{_SERVICE}/Register",
                request_serializer=wire.RegisterRequest.SerializeToString,
                response_deserializer=wire.RegisterResponse.FromString,
            )
            self._reply = await call(self._request(), timeout=_DEADLINE_S)
        if not self._reply.client_cert_pem:
            raise NotServedError(
                f"registered as {self._reply.status} without a leaf: use an auto-approving token"
            )

    async def connect(self) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        """Open the stream and wait for the first acknowledgement.

        Raises:
            grpc.aio.AioRpcError: it was refused.
            NotServedError: the stream ended instead.
        """
        credentials = grpc.ssl_channel_credentials(
            self._target.ca_pem, self._key_pem(), self._reply.client_cert_pem.encode()
        )
        self._channel = grpc.aio.secure_channel(self._target.address, credentials, _OPTIONS)
        stream: grpc.aio.StreamStreamCall[bytes, bytes] = self._channel.stream_stream(
            f"{_SERVICE}/Heartbeat"
        )()
        await _exchange(stream, self._frame(self._reply.jwt_token))
        return stream

    async def beat(
        self,
        stream: grpc.aio.StreamStreamCall[bytes, bytes],
        *,
        until_s: float,
        interval_s: float,
        offset_s: float,
    ) -> AsyncIterator[float]:
        """Send frames until ``until_s`` (monotonic) and yield every round trip; 0 s interval: a closed loop.

        Raises:
            grpc.aio.AioRpcError: the stream was refused or broke.
            NotServedError: it ended in peace.
        """
        frame = self._frame(self._reply.agent_id)
        await asyncio.sleep(offset_s)
        while (sent_s := time.monotonic()) < until_s:
            await _exchange(stream, frame)
            yield time.monotonic() - sent_s
            if interval_s:
                await asyncio.sleep(max(0.0, sent_s + interval_s - time.monotonic()))

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    def _request(self) -> wire.RegisterRequest:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ct-ops-agent")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, None)
        raw = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()
        return wire.RegisterRequest(
            org_token=self._target.token,
            public_key=f"-----BEGIN PUBLIC KEY-----\n{raw}\n-----END PUBLIC KEY-----\n",
            agent_info=wire.AgentInfo(version="loadtest", hostname=self._hostname),
            csr_der=csr.public_bytes(serialization.Encoding.DER),
        )

    def _key_pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @staticmethod
    def _frame(agent_id: str) -> bytes:
        """Return a frame of the size that a small server sends."""
        disk = wire.DiskInfo(
            mount_point="/", device="/dev/vda", fs_type="ext4", total_bytes=1 << 38, percent_used=40
        )
        interface = wire.NetworkInterface(name="eth0", ip_addresses=["192.0.2.7"], is_up=True)
        return wire.HeartbeatRequest(
            agent_id=agent_id, cpu_percent=7, memory_percent=40, disk_percent=40, uptime_seconds=1000,
            timestamp_unix=int(time.time()), agent_version="loadtest", os="linux", os_version="loadtest",
            arch="amd64", disks=[disk], network_interfaces=[interface],
        ).SerializeToString()  # fmt: skip


async def _exchange(stream: grpc.aio.StreamStreamCall[bytes, bytes], frame: bytes) -> None:
    """Send a frame and wait for its acknowledgement, in a run that has an end."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            if not stream.done():  # a stream that ended between two frames: only reading says why
                await stream.write(frame)
            reply = await stream.read()
    except TimeoutError as error:
        raise NotServedError(f"no acknowledgement within {_DEADLINE_S:g} s") from error
    if reply is grpc.aio.EOF:
        raise NotServedError("the stream ended")
