"""An existing agent on a simulated host: what its fleet has before it is upgraded, with the manners of it.

It registers with its token whenever it has no state, polls while it is pending, sends its agent token as its id, says
neither boot, process nor outbox, and brings no items: what it could not send is gone. It believes the server CA that it
was installed with, for ever. It renews only when it connects with less than a third of its leaf's life left; a leaf
that is pushed ends its process, and its service manager starts it again.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_agent.control_plane import Route
from ct_ops_agent.identity.certificates import leaf_life
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.files import locked_directory, write_file
from ct_ops_agent.identity.keystore import KeyPair, keep_key_pair, load_key_pair
from ct_ops_agent.secret import Secret
from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from simulation.fleet_host import DAY_S, Host, seeded_keys
from simulation.fleet_network import Call, Connection
from simulation.fleet_server import ADDRESS
from wire_client import Host as Peer

CUT_OFF = "Socket closed"
"""The complaint of an agent whose leaf a server takes for no leaf of its own: the handshake ends."""
_CA_NAME = "installed_ca.pem"
_LEAF_NAME = "agent_cert.pem"
_STATE_NAME = "agent_state.json"
_QUICK_ATTEMPTS = 6
"""Waits of 1 to 32 s; later ones are stretched, as those of our agents are here."""
_LATER_S = 2 * DAY_S
_RESTART_S = 5.0
_STABLE_AFTER_S = 10.0
_BEAT = object()
_LEAF_LIFE_S = 90 * DAY_S
_WIPING = frozenset(
    {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
)


class ExistingHost(Host):
    """A host with an existing agent."""

    @property
    def mac(self) -> str:
        """Return what tells it from its copies: nothing else does."""
        return "52:54:" + ":".join(
            hashlib.sha256(self.name.encode()).hexdigest()[at : at + 2] for at in (0, 2, 4, 6)
        )

    def start(self) -> None:
        """Start the agent, where there is anything to start it for."""
        if self.process is None and (self.token is not None or self.key_id() is not None):
            self.restarts += 1
            self.process = ExistingAgent(self)


class _ExitedError(Exception):
    """The process has exited."""


class ExistingAgent:
    """Its service: a process, and the next one."""

    def __init__(self, host: ExistingHost) -> None:
        self._host = host
        self._news: asyncio.Queue[object] = asyncio.Queue()
        self._lock = locked_directory(host.folder)
        self._lock.__enter__()
        self._store = CredentialStore(host.folder)
        self._keys = load_key_pair(host.folder) or self._make_keys()
        self._failures = 0
        self._task = asyncio.create_task(self._live(), name=f"existing agent of {host.name}")

    def beat(self) -> None:
        """Have a heartbeat sent now."""
        self._news.put_nowait(_BEAT)

    async def stop(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._lock.__exit__(None, None, None)

    def _make_keys(self) -> KeyPair:
        keys = seeded_keys(self._host.dice)()
        keep_key_pair(self._host.folder, keys)
        return keys

    async def _live(self) -> None:
        while True:
            try:
                await self._run()
            except _ExitedError:
                if self._host.is_windows:
                    await asyncio.Event().wait()  # nobody starts it again
                await asyncio.sleep(_RESTART_S)
            except grpc.aio.AioRpcError as error:
                self._note(error)
                if error.code() in _WIPING:
                    (self._host.folder / _STATE_NAME).unlink(missing_ok=True)
                self._failures += 1
                quick = self._failures <= _QUICK_ATTEMPTS
                await asyncio.sleep(2.0 ** (self._failures - 1) if quick else _LATER_S)

    def _note(self, error: grpc.aio.AioRpcError) -> None:
        metadata = dict(error.trailing_metadata() or ())
        is_untrusted = "CERTIFICATE_VERIFY_FAILED" in (error.details() or "")
        self._host.complaint = str(
            metadata.get("ct-ops-reason") or ("untrusted_server" if is_untrusted else error.details())
        )

    async def _run(self) -> None:
        peer = self._peer()
        if not peer.agent_token:
            await self._register(peer)
        await self._renew(peer)
        connection, self._news = self._dial(peer), asyncio.Queue()
        try:
            await self._speak(connection.stream(), peer)
        finally:
            connection.end()

    def _peer(self) -> Peer:
        identity = self._store.load(self._keys).identity
        leaf = self._host.folder / _LEAF_NAME
        return Peer(
            self._host.hostname,
            Ed25519PrivateKey.from_private_bytes(self._keys.seed),
            leaf.read_text() if leaf.exists() else "",
            identity.agent_token.reveal() if identity else "",
            identity.agent_id if identity else "",
            os="windows" if self._host.is_windows else "linux",
        )

    def _dial(self, peer: Peer) -> Connection:
        host = self._host
        identity = Identity(peer.agent_id, Secret(peer.agent_token), self._keys, peer.leaf_pem, "", 0)
        route = Route((ADDRESS,), self._installed_ca())
        return host.world.network.dial(route, identity if peer.leaf_pem else None, host.place)

    def _installed_ca(self) -> str:
        file, serving = self._host.folder / _CA_NAME, self._host.world.network.serving
        if not file.exists():
            if serving is None:
                return ""
            write_file(file, serving.served_tls.current.ca_pem)
        return file.read_text()

    async def _register(self, peer: Peer) -> None:
        secret = self._host.token.secret if self._host.token else "none"
        while True:
            reply = wire.RegisterResponse.FromString(await self._ask(peer, "Register", peer.request(secret)))
            if reply.status == "active" and reply.jwt_token:
                break
            self._host.complaint = reply.reason
            await asyncio.sleep(DAY_S)
        peer.agent_id, peer.agent_token = reply.agent_id, reply.jwt_token
        self._keep(peer, reply.client_cert_pem or peer.leaf_pem, reply.agent_ca_cert_pem)

    async def _renew(self, peer: Peer) -> None:
        left_s = leaf_life(peer.leaf_pem, self._keys).not_after_unix - self._host.wall()
        if left_s >= _LEAF_LIFE_S / 3:
            return
        request = wire.RenewCertificateRequest(agent_id=peer.agent_token, csr_der=peer.request("").csr_der)
        with suppress(grpc.aio.AioRpcError):  # it goes on with what it has
            raw = await self._ask(peer, "RenewCertificate", request)
            reply = wire.RenewCertificateResponse.FromString(raw)
            self._keep(peer, reply.client_cert_pem, reply.agent_ca_cert_pem)

    async def _ask(
        self, peer: Peer, method: str, request: wire.RegisterRequest | wire.RenewCertificateRequest
    ) -> bytes:
        connection = self._dial(peer)
        try:
            return await connection.unary(method, request.SerializeToString())
        finally:
            if not connection.is_lost:
                connection.end()

    def _keep(self, peer: Peer, leaf_pem: str, ca_pem: str) -> None:
        peer.leaf_pem = leaf_pem
        token = Secret(peer.agent_token)
        self._store.keep_identity(Identity(peer.agent_id, token, self._keys, leaf_pem, ca_pem, 0))

    async def _speak(self, stream: Call, peer: Peer) -> None:
        interfaces = [wire.NetworkInterface(name="eth0", mac_address=self._host.mac, is_up=True)]
        frame = peer.first_frame(wire.HeartbeatRequest(network_interfaces=interfaces)).SerializeToString()
        began_s = self._host.world.now_s()
        listening = asyncio.create_task(self._listen(stream))
        try:
            while True:
                with suppress(asyncio.InvalidStateError):  # how it ended is told below
                    await stream.write(frame)
                await self._until_due(peer)
                if self._host.world.now_s() - began_s > _STABLE_AFTER_S:
                    self._failures = 0
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            stream.cancel()

    async def _listen(self, stream: Call) -> None:
        """Hand on what comes, to the end of it."""
        raw: object = b""
        while isinstance(raw, bytes):
            try:
                raw = await stream.read()
            except grpc.aio.AioRpcError as error:
                raw = error
            self._news.put_nowait(raw)

    async def _until_due(self, peer: Peer) -> None:
        """Take what comes, until another heartbeat is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s()):
                while (news := await self._news.get()) is not _BEAT:
                    self._take(news, peer)

    def _interval_s(self) -> float:
        return self._host.interval.total_seconds() * (0.9 + 0.2 * self._host.dice.random())

    def _take(self, raw: object, peer: Peer) -> None:
        if isinstance(raw, grpc.aio.AioRpcError):
            raise raw
        if not isinstance(raw, bytes):
            raise _ExitedError
        self._host.complaint = ""
        reply = wire.HeartbeatResponse.FromString(raw)
        if reply.pending_client_cert_pem:
            self._keep(peer, reply.pending_client_cert_pem, reply.agent_ca_cert_pem)
            raise _ExitedError
