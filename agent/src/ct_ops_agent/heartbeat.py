"""The heartbeat: due → look at the host → frame → reply.

One stream at a time, opened by :meth:`Heartbeat.run`, which returns when a new leaf wants a new
connection and otherwise ends with an error that names the reaction (`lifecycle` reacts). What is said
on it is a `conversation`. A clean stop ends our half of the stream first, so that the server sees a
farewell, not a loss.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from ct_ops_agent.anchors import StreamAnchors
from ct_ops_agent.control_plane import Connect, Route
from ct_ops_agent.conversation import Conversation
from ct_ops_agent.conversation_parts import Acknowledgement, HeartbeatParts, StreamEvents
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.link import NothingToDeliver, WorkUndone
from ct_ops_agent.vitals import Vitals

_log = logging.getLogger(__name__)


class Heartbeat:
    """Reports to the server for as long as a stream lasts."""

    def __init__(self, connect: Connect, parts: HeartbeatParts) -> None:
        self._connect = connect
        self._parts = parts

    async def run(self, route: Route, identity: Identity, events: StreamEvents) -> None:
        """Keep a stream alive until it fails, or until a new leaf wants a new connection.

        Args:
            route: where to.
            identity: as whom.
            events: told of each acknowledged heartbeat and of new credentials.

        Raises:
            UnreachableError: the connection is gone.
            CredentialRejectedError: the server wants this agent to register again.
            EnrolmentRefusedError: the server wants this agent to stay away.
        """
        async with self._connect(route, identity) as session:
            stream = session.open_heartbeat()
            anchors = StreamAnchors(route, self._parts.prove)
            conversation = Conversation(self._parts, session, stream, identity, events, anchors=anchors)
            try:
                await conversation.open()
                _log.info("connected to %s as agent %s", ", ".join(route.addresses), identity.agent_id)
                while not conversation.wants_new_connection:
                    await conversation.wait_until_due()
                    await conversation.beat()
            finally:
                await conversation.close()
                await stream.finish()
        _log.info("connecting again with the new certificate")

    async def once(self, route: Route, identity: Identity) -> Vitals:
        """Send one heartbeat, wait until the server has acknowledged it, and return what was said.

        Raises:
            UnreachableError, CredentialRejectedError, EnrolmentRefusedError: as :meth:`run`.
        """
        async with self._connect(route, identity) as session:
            stream = session.open_heartbeat()
            # Work would be cut off before it has begun, and the outbox belongs to the daemon.
            parts = replace(self._parts, works=WorkUndone(), delivery=NothingToDeliver())
            anchors = StreamAnchors(route, parts.prove)
            conversation = Conversation(parts, session, stream, identity, _Nobody(), anchors=anchors)
            try:
                return await conversation.open()
            finally:
                await conversation.close()
                await stream.finish()


class _Nobody:
    """Told and not interested."""

    def acknowledged(self, news: Acknowledgement) -> None:
        """Ignore it."""

    def renewed(self, identity: Identity) -> None:
        """Ignore it."""

    def trusts(self, roots_pem: str) -> None:
        """Ignore it."""
