"""The server CAs on one stream: announced when the agent does not believe exactly these, its answer noted.

An agent that keeps to what is configured on its host is told once a stream, and says which of them it believes.
"""

from __future__ import annotations

import hashlib

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_ca_lineage import MOST_ANCHORS
from ct_ops_server.fleet.anchor_log import AnchorLog
from ct_ops_server.fleet.following import AnchorSource, Believed

FEATURE = "anchors"
"""What ``features`` calls it, in hello and in welcome."""

_SOURCES = {
    wire.AnchorReport.LEARNT: AnchorSource.LEARNT,
    wire.AnchorReport.OPERATOR: AnchorSource.OPERATOR,
    wire.AnchorReport.HOST: AnchorSource.HOST,
    wire.AnchorReport.UNVERIFIED: AnchorSource.UNVERIFIED,
}
_DIGEST_BYTES = 32


class Announcements:
    """What one agent was told."""

    def __init__(self, served: ServedTls, log: AnchorLog, agent_id: str) -> None:
        self._served = served
        self._log = log
        self._agent_id = agent_id
        self._told: tuple[bytes, ...] | None = None
        self._believed: frozenset[bytes] | None = None

    def answer(self, frame: wire.HeartbeatRequest, reply: wire.HeartbeatResponse) -> None:
        """Note what the frame says, and put into the reply what the agent does not know."""
        if frame.HasField("anchors"):
            self._note(frame.anchors)
        anchors = self._served.current.anchors
        if not anchors or anchors == self._told:
            return
        if self._believed == frozenset(hashlib.sha256(der).digest() for der in anchors):
            return
        reply.anchors.certificates.extend(anchors)
        self._told = anchors

    def _note(self, report: wire.AnchorReport) -> None:
        believed = believed_of(report)
        if believed is None:
            return
        if believed.source is AnchorSource.LEARNT or self._told is not None:
            self._log.note(self._agent_id, believed)  # others cannot say before they know what is asked
        self._believed = believed.anchors


def believed_of(report: wire.AnchorReport) -> Believed | None:
    """Return what an agent says it believes; None for what is no such thing."""
    source = _SOURCES.get(report.source)
    digests = frozenset(report.believed)
    if source is None or len(digests) > MOST_ANCHORS or any(len(each) != _DIGEST_BYTES for each in digests):
        return None
    return Believed(source, digests)
