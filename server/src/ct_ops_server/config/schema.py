"""The configuration as the rest of the server sees it: typed, frozen, nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from ct_ops_server.config.pem import PemSource


class Source(StrEnum):
    """Where a value came from."""

    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``load_settings`` found. ``variables`` documents each field by its variable."""

    database_url: str = field(repr=False)
    """In libpq's or SQLite's form. May hold a password: not in ``repr``, never to be logged."""
    data_dir: Path
    grpc_host: str | None
    """None: all interfaces, IPv4 and IPv6."""
    grpc_port: int
    http_host: str
    http_port: int
    public_addresses: tuple[str, ...]
    """``host:port``, IPv6 in brackets; empty: to be derived from the listener and the host's name."""
    tls_cert: Path | None
    """Set together with ``tls_key`` or not at all."""
    tls_key: Path | None
    tls_ca: Path | None
    agent_ca_cert: PemSource | None
    """Set together with ``agent_ca_key`` or not at all."""
    agent_ca_key: PemSource | None
    jwt_key_file: Path | None
    secret_file: Path
    web_server_cert: Path | None
    """None: off."""
    samples_keep: timedelta
    """As they came; the coarser ones below are each at least as long."""
    samples_keep_1m: timedelta
    samples_keep_1h: timedelta
    samples_keep_1d: timedelta
    series_keep: timedelta
    tokens_keep: timedelta
    history_keep: timedelta
    audit_keep: timedelta
    audit_files_keep: timedelta
    audit_file_mib: int
    series_per_agent: int
    max_connections: int | None
    """None: what the limit of open files allows."""
    max_handshakes: int
    max_handshakes_per_address: int
    connections_per_second: int
    connections_per_second_per_address: int
    max_streams: int
    max_message_kib: int
    frames_per_second: int
    registrations_per_address: int | None
    """In a minute; None: as many as come."""
    registrations_per_token: int | None
    pending_per_token: int
    writer_queue: int
    agent_dist_dir: Path
    download_base_url: str | None
    """Without a slash at its end; None: the public address."""
    web_tls_cert: Path | None
    """None: off."""
    trust_proxy_headers: bool
    loadtest_admin_key: str | None = field(repr=False)
    """None: off. A secret."""
    log_level: str
    log_format: str
    proxy_protocol_networks: tuple[IPv4Network | IPv6Network, ...]
    """Balancers that say whose connection theirs are."""
    workers: int
    drain: timedelta
    """How long a stop may take, at most."""

    sources: Mapping[str, Source] = field(repr=False, compare=False)
    """By variable, where its value came from."""
    notices: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Sentences to warn of once at a start: old names, variables without effect."""
    information: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Sentences to mention once at a start: what is off because its file is not there."""
