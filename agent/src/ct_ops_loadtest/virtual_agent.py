"""One virtual agent: a key in memory, a Register, and frames on a stream of its own.

It behaves as existing agents do, and knows nothing of our fields: the raw Ed25519 key in PEM armour, a CSR of the same key, the
agent token in the first frame of each stream, one reply for each frame. So the same agent drives any server of the wire.

An agent is cheap: key, context, connection and a few strings. When to do what is ``driver``'s.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from google.protobuf.message import DecodeError

from ct_ops_loadtest.connection import Connection, RpcError, dial
from ct_ops_loadtest.http2 import DEADLINE_EXCEEDED, UNKNOWN, Ending
from ct_ops_loadtest.plan import Target
from ct_ops_loadtest.tls import Identity
from ct_ops_proto.agent.v1 import ingest_pb2 as wire

_SERVICE = "/agent.v1.IngestService"
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ct-ops-agent")])
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """The numbers of a frame."""

    cpu: float = 7.0
    memory: float = 40.0
    disk: float = 40.0


class NotApprovedError(Exception):
    """Register was answered without a leaf. ``str()`` is a sentence."""


class VirtualAgent:
    """Enrols, connects, beats, and breaks off."""

    def __init__(
        self, target: Target, hostname: str, on_work: Callable[[wire.HeartbeatResponse], None]
    ) -> None:
        """Make a key; ``on_work`` hears of every reply and pushed frame that carries more than an acknowledgement."""
        self.hostname = hostname
        self._target = target
        self._on_work = on_work
        self._key = Ed25519PrivateKey.generate()
        self._reply = wire.RegisterResponse()
        self._context: ssl.SSLContext | None = None
        self._connection: Connection | None = None
        self._number = 0
        self._waiting: asyncio.Future[None] | None = None
        self._ended: RpcError | None = None
        self._stirred: asyncio.Future[None] | None = None
        """Wakes a resting agent: work has come, or the end."""

    # ---- enrolment -------------------------------------------------------------------------------

    async def register(self, anonymous: ssl.SSLContext) -> None:
        """Register on a connection of its own; the token must approve by itself.

        Raises:
            RpcError: it was refused.
            NotApprovedError: it was not approved.
        """
        connection = await dial(self._target.server, anonymous)
        try:
            answer = await connection.call(f"{_SERVICE}/Register", [self._request().SerializeToString()])
        finally:
            connection.close()
        self._reply = _parsed(wire.RegisterResponse, answer)
        self._context = None
        if not self._reply.client_cert_pem:
            raise NotApprovedError(
                f"registered as {self._reply.status or 'nothing'} without a leaf: use an auto-approving token"
            )

    @property
    def agent_token(self) -> str:
        """What the server gave it beside the leaf. A secret."""
        return self._reply.jwt_token

    @property
    def agent_id(self) -> str:
        """What the server calls it."""
        return self._reply.agent_id

    # ---- the stream ------------------------------------------------------------------------------

    async def dial(self, *, bytes_per_s: float = 0) -> Connection:
        """Return a new connection that presents this agent's leaf.

        Raises:
            RpcError: it cannot be made.
        """
        if self._context is None:
            identity = Identity(self._key_pem(), self._reply.client_cert_pem.encode())
            self._context = self._target.trust.context(identity)
        return await dial(self._target.server, self._context, bytes_per_s=bytes_per_s)

    async def open(self, connection: Connection) -> None:
        """Open a stream on a connection and wait for the first acknowledgement.

        Raises:
            RpcError: it was refused.
        """
        self._connection, self._ended = connection, None
        self._number = connection.open(f"{_SERVICE}/Heartbeat", (), self._take, self._end)
        await self.exchange(self.frame(self.agent_token))

    async def exchange(self, frame: bytes) -> float:
        """Send a frame and wait for its acknowledgement; return the seconds between.

        Raises:
            RpcError: the stream was refused or has ended.
        """
        connection = self._connection
        if self._ended is not None or connection is None:
            raise self._ended or _no_stream()
        self._waiting = asyncio.get_running_loop().create_future()
        sent_s = time.monotonic()
        connection.http2.send(self._number, frame)
        connection.flush()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._waiting
        except TimeoutError as error:
            self.cut()
            raise RpcError(
                Ending(DEADLINE_EXCEEDED, f"no acknowledgement within {DEADLINE_S:g} s")
            ) from error
        finally:
            self._waiting = None
        return time.monotonic() - sent_s

    async def rest(self, seconds: float) -> None:
        """Wait between two frames, less long when work comes.

        Raises:
            RpcError: the stream has ended meanwhile.
        """
        if self._ended is None and seconds > 0:
            self._stirred = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._stirred,), timeout=seconds)
            self._stirred = None
        if self._ended is not None:
            raise self._ended

    async def upload(self, chunks: Sequence[wire.SoftwareInventoryChunk]) -> None:
        """Send a software inventory beside the stream.

        Raises:
            RpcError: it was refused, or there is no connection.
        """
        if self._connection is None:
            raise _no_stream()
        await self._connection.call(
            f"{_SERVICE}/SubmitSoftwareInventory",
            [chunk.SerializeToString() for chunk in chunks],
            metadata=(("authorization", f"Bearer {self.agent_token}"),),
        )

    def pause_reading(self) -> None:
        """Leave what the server sends unread."""
        if self._connection is not None:
            self._connection.pause()

    def resume_reading(self) -> None:
        """Read again."""
        if self._connection is not None:
            self._connection.resume()

    def cut(self) -> None:
        """Break off as a crash would, with everybody who shares the connection."""
        if self._connection is not None:
            self._connection.close("cut by the plan")

    def close(self) -> None:
        """Say goodbye."""
        if self._connection is not None:
            self._connection.http2.half_close(self._number)
            self._connection.flush()
            self._connection.finish()

    # ---- messages --------------------------------------------------------------------------------

    def frame(self, agent_id: str, vitals: Vitals | None = None, **work: object) -> bytes:
        """Return a frame of the size that a small server sends, with results of work if there are any."""
        vitals = vitals or Vitals()
        frame = wire.HeartbeatRequest(
            agent_id=agent_id, cpu_percent=vitals.cpu, memory_percent=vitals.memory, disk_percent=vitals.disk,
            uptime_seconds=1000, timestamp_unix=int(time.time()), agent_version="loadtest", os="linux",
            os_version="Linux", arch="amd64", disks=[_DISK], network_interfaces=[_INTERFACE], **work,  # type: ignore[arg-type] # the caller's
        )  # fmt: skip
        return frame.SerializeToString()

    def _request(self) -> wire.RegisterRequest:
        csr = x509.CertificateSigningRequestBuilder().subject_name(_NAME).sign(self._key, None)
        raw = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()
        return wire.RegisterRequest(
            org_token=self._target.token,
            public_key=f"-----BEGIN PUBLIC KEY-----\n{raw}\n-----END PUBLIC KEY-----\n",
            # No addresses: thousands of hosts with the same one would look like copies of each other.
            platform_info=wire.PlatformInfo(os="linux", arch="amd64", os_version="Linux"),
            agent_info=wire.AgentInfo(version="loadtest", hostname=self.hostname),
            csr_der=csr.public_bytes(serialization.Encoding.DER),
        )

    def _key_pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def _take(self, message: bytes) -> None:
        try:
            reply = wire.HeartbeatResponse.FromString(message)
        except DecodeError:
            self.cut()
            return
        # Ours push without ``ok``; whatever an existing server says first after a frame answers it.
        if reply.ok and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        if len(message) > _BARE:
            self._on_work(reply)
            self._stir()

    def _end(self, ending: Ending) -> None:
        error = RpcError(ending) if ending.code else RpcError(Ending(UNKNOWN, "the server ended the stream"))
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        self._ended = error
        self._stir()

    def _stir(self) -> None:
        if self._stirred is not None and not self._stirred.done():
            self._stirred.set_result(None)


def _no_stream() -> RpcError:
    return RpcError(Ending(UNKNOWN, "there is no stream"))


_DISK = wire.DiskInfo(
    mount_point="/", device="/dev/vda", fs_type="ext4", total_bytes=1 << 38, percent_used=40
)
_INTERFACE = wire.NetworkInterface(name="eth0", ip_addresses=["192.0.2.7"], is_up=True)
_BARE = len(wire.HeartbeatResponse(ok=True).SerializeToString())


def _parsed(kind: type[wire.RegisterResponse], message: bytes) -> wire.RegisterResponse:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise RpcError(Ending(UNKNOWN, "the server's answer cannot be read")) from error
