"""SubmitSoftwareInventory: one software scan, uploaded chunk by chunk, stored whole at its last one.

Who uploads is proven twice, as on a heartbeat stream: by the leaf at the handshake, and by the agent token
in the metadata. What it may upload is said by the task's row, at the first chunk and again in the
transaction that stores the scan. Nothing is stored before that.

No refusal here makes an existing agent forget its identity (rule 10): a scan that is not wanted is
FAILED_PRECONDITION, whatever is wrong with it. All uploads of the process share a budget of packages, so
that nobody fills the memory with scans that never end.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.edge.budget import Share
from ct_ops_server.edge.convert import clean_text, storable_time
from ct_ops_server.edge.refusals import refuse
from ct_ops_server.edge.rpc import RpcGround
from ct_ops_server.fleet.orders import ScannedPackage, ScanStored
from ct_ops_server.fleet.scans import Chunk, Scan
from ct_ops_server.fleet.sessions import Greeting
from ct_ops_server.fleet.work_ports import ScanRefusedError

if TYPE_CHECKING:
    from ct_ops_server.edge.rpc import Context

_log = logging.getLogger("ct_ops_server.agent_service")
_SIGN_OF_LIFE_EVERY_S = 60.0
_ID_CHARS = 255
_SOURCE_CHARS = 32
_TEXT_CHARS = 255
_ARCHITECTURE_CHARS = 64
_LARGEST_ATTEMPT = 2**31 - 1


class UploadRpc:
    """The handler; bytes in, bytes out."""

    def __init__(self, ground: RpcGround) -> None:
        self._ground = ground
        self._parts = ground.parts

    async def serve(self, _requests: object, context: Context) -> bytes:
        """Take one upload from its first chunk to its last."""
        async with self._ground.ended("SubmitSoftwareInventory", context) as caller:
            leaf = await self._ground.verified_leaf(caller)
            self._check_token(leaf, context)
            with self._parts.uploads.upload_of(leaf.agent_id) as share:
                try:
                    stored = await self._take(leaf, context, share)
                except ScanRefusedError as error:
                    raise refuse(error.reason) from None
            self._parts.metrics.inventories.inc()
            return wire.SoftwareInventoryAck(received=stored.found).SerializeToString()
        raise AssertionError("a refusal has ended the call")

    def _check_token(self, leaf: LeafOfAgent, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        claimed = token.strip() if scheme.lower() == "bearer" else ""
        greeting = Greeting(leaf.agent_id, leaf.key_id, leaf.sha256, claimed)
        if self._parts.sessions.fault_of_token(greeting) is not None:
            raise refuse("upload_token")

    async def _take(self, leaf: LeafOfAgent, context: Context, share: Share) -> ScanStored:
        inventory, now_s = self._parts.inventory, asyncio.get_running_loop().time
        first = await self._next_chunk(leaf, context, share)
        scan, alive_at_s = Scan(first), now_s()
        await inventory.begin_scan(leaf.agent_id, scan.task_id, scan.attempt)
        while not scan.is_complete:
            scan.take(await self._next_chunk(leaf, context, share))
            if now_s() - alive_at_s >= _SIGN_OF_LIFE_EVERY_S:
                alive_at_s = now_s()
                await inventory.begin_scan(leaf.agent_id, scan.task_id, scan.attempt)
        stored = await inventory.store_scan(leaf.agent_id, scan.task_id, scan.attempt, scan.packages)
        _log.info(
            "agent %s has %d packages, %d of them new; %d are gone",
            leaf.agent_id,
            stored.found,
            stored.new,
            stored.removed,
        )
        return stored

    async def _next_chunk(self, leaf: LeafOfAgent, context: Context, share: Share) -> Chunk:
        try:
            async with asyncio.timeout(self._parts.limits.first_frame_s):
                raw: object = await context.read()
        except TimeoutError:
            raise refuse("upload_stalled") from None
        if not isinstance(raw, bytes):
            raise refuse("scan_incomplete")
        message = self._ground.parse(raw, wire.SoftwareInventoryChunk)
        if message.agent_id and message.agent_id != leaf.agent_id:
            raise refuse("agent_id_mismatch")
        share.take(len(message.packages))
        return chunk_of(message, self._parts.now())


def chunk_of(message: wire.SoftwareInventoryChunk, now: datetime) -> Chunk:
    """Return a chunk, storable (rule 15). A package without a name is none."""
    source = clean_text(message.source, _SOURCE_CHARS)
    packages = (
        ScannedPackage(
            source=source,
            name=clean_text(package.name, _TEXT_CHARS),
            version=clean_text(package.version, _TEXT_CHARS),
            architecture=clean_text(package.architecture, _ARCHITECTURE_CHARS),
            publisher=clean_text(package.publisher, _TEXT_CHARS),
            installed_at_s=storable_time(package.install_date_unix, now),
        )
        for package in message.packages
    )
    return Chunk(
        task_id=clean_text(message.scan_id, _ID_CHARS),
        attempt=min(message.attempt, _LARGEST_ATTEMPT),
        index=message.chunk_index,
        is_last=message.is_last,
        packages=tuple(package for package in packages if package.name),
    )
