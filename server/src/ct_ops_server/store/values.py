"""Values as they lie in the tables: times as milliseconds, tags and lists as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from ct_ops_server.enrolment.model import Application, EnrolledAgent, LeafRecord, TokenRecord, TokenTerms
from ct_ops_server.fleet.model import Agent, AgentStatus, Disk, Facts, Interface, StatusChange, Tag, Vitals

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_STATUSES = frozenset(each.value for each in AgentStatus)
_tags = msgspec.json.Decoder(list[tuple[str, str]])
_strings = msgspec.json.Decoder(list[str])
_history = msgspec.json.Decoder(list[tuple[int, str, str, str]])
_disks = msgspec.json.Decoder(list[Disk])
_interfaces = msgspec.json.Decoder(list[Interface])


def to_ms(moment: datetime) -> int:
    """Return milliseconds since the epoch; ``moment`` has a time zone."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """Return the moment, in UTC."""
    return _EPOCH + milliseconds * _MILLISECOND


def maybe_to_ms(moment: datetime | None) -> int | None:
    """Return ``to_ms`` of a moment, if there is one."""
    return None if moment is None else to_ms(moment)


def maybe_from_ms(milliseconds: int | None) -> datetime | None:
    """Return ``from_ms`` of a number, if there is one."""
    return None if milliseconds is None else from_ms(milliseconds)


def status_from(word: str) -> AgentStatus:
    """Return the status that a row has. A word that is none of ours counts as a quarantine.

    A newer server on the same database wrote it. Whatever it means, nobody is served on the strength of it, no agent
    is told to start over, and one such row ends neither this server nor anybody's list of agents.
    """
    return AgentStatus(word) if word in _STATUSES else AgentStatus.QUARANTINED


def encode_tags(tags: Iterable[Tag]) -> str:
    """Return tags as JSON pairs."""
    return msgspec.json.encode([(tag.key, tag.value) for tag in tags]).decode()


def decode_tags(document: str) -> tuple[Tag, ...]:
    """Return tags from JSON pairs."""
    return tuple(Tag(key, value) for key, value in _tags.decode(document))


def encode_strings(strings: Iterable[str]) -> str:
    """Return strings as a JSON list."""
    return msgspec.json.encode(list(strings)).decode()


def encode_history(changes: Iterable[StatusChange]) -> str:
    """Return a status history as JSON."""
    rows = [(to_ms(change.at), change.status.value, change.actor, change.reason) for change in changes]
    return msgspec.json.encode(rows).decode()


def decode_history(document: str) -> tuple[StatusChange, ...]:
    """Return a status history from JSON."""
    return tuple(
        StatusChange(from_ms(at), status_from(status), actor, reason)
        for at, status, actor, reason in _history.decode(document)
    )


def claims_of(application: Application) -> dict[str, Any]:
    """Return the columns that come from what a host says about itself, and from where."""
    return {
        "hostname": application.hostname,
        "os": application.os,
        "os_version": application.os_version,
        "arch": application.arch,
        "agent_version": application.agent_version,
        "claimed_addresses": encode_strings(application.ip_addresses),
        "claimed_tags": encode_tags(application.claimed_tags),
        "observed_address": application.observed_address,
        "machine_id": application.machine_id or None,
    }


def leaf_values(leaf: LeafRecord) -> dict[str, Any]:
    """Return the columns of a leaf."""
    return {
        "serial": leaf.serial,
        "agent_id": leaf.agent_id,
        "pem": leaf.pem,
        "sha256": leaf.sha256,
        "issued_at": to_ms(leaf.issued_at),
        "not_after": to_ms(leaf.not_after),
        "authority_sha256": leaf.authority_sha256,
    }


def token_values(terms: TokenTerms) -> dict[str, Any]:
    """Return the columns of a token's terms."""
    return {
        "label": terms.label,
        "auto_approve": terms.auto_approve,
        "max_uses": terms.max_uses,
        "expires_at": maybe_to_ms(terms.expires_at),
        "tags": encode_tags(terms.tags),
        "networks": encode_strings(terms.networks),
        "hostname_pattern": terms.hostname_pattern,
    }


def token_from(row: Any) -> TokenRecord:
    """Return an enrolment token from its row."""
    return TokenRecord(
        id=row.id,
        terms=TokenTerms(
            label=row.label,
            auto_approve=bool(row.auto_approve),
            max_uses=row.max_uses,
            expires_at=maybe_from_ms(row.expires_at),
            tags=decode_tags(row.tags),
            networks=tuple(_strings.decode(row.networks)),
            hostname_pattern=row.hostname_pattern,
        ),
        uses=row.uses,
        created_at=from_ms(row.created_at),
        created_by=row.created_by,
        revoked_at=maybe_from_ms(row.revoked_at),
        revoked_by=row.revoked_by or "",
        revoked_reason=row.revoked_reason or "",
    )


def enrolled_agent_from(row: Any) -> EnrolledAgent:
    """Return an agent from its row joined with its youngest leaf."""
    return EnrolledAgent(
        id=row.id,
        status=status_from(row.status),
        leaf_pem=row.pem,
        leaf_sha256=row.sha256,
        leaf_issued_at=maybe_from_ms(row.issued_at),
        leaf_not_after=maybe_from_ms(row.not_after),
        leaf_authority_sha256=row.authority_sha256,
        public_key_der=row.public_key_der,
    )


def agent_from(row: sa.Row[Any], tags: tuple[Tag, ...], facts: Facts | None) -> Agent:
    """Return an agent from its row (with ``is_online`` and ``leaf_not_after``) and what belongs to it."""
    return Agent(
        id=row.id,
        hostname=row.hostname,
        status=status_from(row.status),
        online=bool(row.is_online),
        last_seen_at=maybe_from_ms(row.last_seen_at),
        created_at=from_ms(row.created_at),
        key_id=row.key_id,
        observed_address=row.observed_address,
        tags=tags,
        claimed_tags=decode_tags(row.claimed_tags),
        evidence=row.evidence,
        vitals=vitals_from(row),
        facts=facts,
        leaf_not_after=maybe_from_ms(row.leaf_not_after),
        clock_skew=None if row.clock_skew_ms is None else row.clock_skew_ms * _MILLISECOND,
        token_id=row.token_id,
    )


def vitals_from(row: sa.Row[Any]) -> Vitals | None:
    """Return the latest vitals; None before the first heartbeat."""
    if row.reported_at_s is None:
        return None
    return Vitals(
        cpu_percent=row.cpu_percent,
        memory_percent=row.memory_percent,
        disk_percent=row.disk_percent,
        uptime_s=row.uptime_s,
        reported_at_s=row.reported_at_s,
        agent_version=row.agent_version,
        os=row.os,
        os_version=row.os_version,
        arch=row.arch,
    )


def facts_from(disks: str, interfaces: str) -> Facts:
    """Return the facts from their documents."""
    return Facts(disks=_disks.decode(disks), interfaces=_interfaces.decode(interfaces))
