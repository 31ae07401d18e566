"""Every variable the server knows, in one table.

The only place where a name, a default or a form is written; ``docs/server-configuration.md`` is
generated from it.

Three kinds:

* ``VARIABLES``  have an effect;
* ``DEFERRED``   belong to the product, their feature is not built yet: accepted, with one log line;
* ``OF_AGENTS``  belong to ``ct-ops-agent`` and may share the environment: ignored.

A secret may also be given as ``<NAME>_FILE``, the path of a file that holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct_ops_server.config.addresses import parse_addresses, parse_host, parse_port
from ct_ops_server.config.duration import FORM, parse_duration
from ct_ops_server.config.pem import mask_pem_source, parse_pem_source
from ct_ops_server.config.values import (
    LOG_FORMATS,
    LOG_LEVELS,
    mask_credential,
    mask_database_url,
    parse_base_url,
    parse_count,
    parse_credential,
    parse_database_url,
    parse_flag,
    parse_log_format,
    parse_log_level,
    parse_networks,
    parse_optional_path,
    parse_path,
    parse_workers,
)

ENV_FILE = Path("/etc/ct-ops/server.env")
"""Read beside the environment, which wins."""

DEFAULT_DATA_DIR = "/var/lib/ct-ops/server"

DEFAULT_WEB_SERVER_CERT = "/etc/ct-ops/server-tls/server.crt"

DEFAULT_WEB_TLS_CERT = "/var/lib/ct-ops/server-tls/server.crt"

DATA_DIR_MARK = "<INGEST_DATA_DIR>"
"""Stands for the data directory in a default."""

PREFIXES = ("INGEST_", "CT_OPS_")
"""A name with one of these is meant for us: an unknown one is a mistake."""

_A_PATH = "an absolute path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable that has an effect."""

    name: str
    field: str
    """The field of ``Settings``."""
    parse: Callable[[str], object]
    """Returns the value; its ``ValueError`` completes the sentence "NAME …"."""
    accepts: str
    doc: str
    """One sentence."""
    default: str | None = None
    """As it would be written; None: absent."""
    absent: object = None
    """The value when it is absent and has no default."""
    without: str = ""
    """What happens when it is absent, when there is no default to show."""
    secret: bool = False
    empty_counts: bool = False
    """An empty value says something; for the others it is the same as none."""
    old_names: tuple[str, ...] = ()
    mask: Callable[[str], str] = str
    """For people to read."""


VARIABLES = (
    Variable(
        name="DATABASE_URL",
        field="database_url",
        parse=parse_database_url,
        accepts="`postgresql://…` (libpq's form, also `postgres://`) or `sqlite:////absolute/path`",
        doc="The database that holds everything the server knows.",
        default=f"sqlite:///{DATA_DIR_MARK}/ct-ops.db",
        secret=True,
        old_names=("INGEST_DATABASE_URL",),
        mask=mask_database_url,
    ),
    Variable(
        name="INGEST_DATA_DIR",
        field="data_dir",
        parse=parse_path,
        accepts=_A_PATH,
        doc="The server's own folder (0700): database, keys and the socket of the command line.",
        default=DEFAULT_DATA_DIR,
    ),
    Variable(
        name="INGEST_GRPC_HOST",
        field="grpc_host",
        parse=parse_host,
        accepts="a host name or an address",
        doc="Where the front door listens for agents.",
        without="all interfaces, IPv4 and IPv6",
    ),
    Variable(
        name="INGEST_GRPC_PORT",
        field="grpc_port",
        parse=parse_port,
        accepts="0 to 65535; 0 lets the system choose",
        doc="The port agents connect to.",
        default="9443",
    ),
    Variable(
        name="INGEST_HTTP_HOST",
        field="http_host",
        parse=parse_host,
        accepts="a host name or an address",
        doc="Where the HTTP app listens (JWKS, health, metrics); it speaks no TLS, so keep it on loopback or behind a proxy.",
        default="127.0.0.1",
    ),
    Variable(
        name="INGEST_HTTP_PORT",
        field="http_port",
        parse=parse_port,
        accepts="0 to 65535; 0 lets the system choose",
        doc="The port of the HTTP app.",
        default="8080",
    ),
    Variable(
        name="INGEST_PUBLIC_ADDRESS",
        field="public_addresses",
        parse=parse_addresses,
        accepts="`host:port[,host:port]`, IPv6 in brackets, at most 57 characters",
        doc="How agents reach the front door from outside: enrolment tokens carry it, and a certificate we make holds its hosts.",
        absent=(),
        without="this host's name and the port of the front door",
    ),
    Variable(
        name="INGEST_PROXY_PROTOCOL_NETWORKS",
        field="proxy_protocol_networks",
        parse=parse_networks,
        accepts="`address/prefix[,address/prefix]`",
        doc="The balancers before the front door, which must send PROXY protocol version 2: their word on who is calling is believed, and required ([scaling.md](scaling.md)).",
        absent=(),
        without="nobody's word is believed",
    ),
    Variable(
        name="INGEST_TLS_CERT",
        field="tls_cert",
        parse=parse_path,
        accepts=f"{_A_PATH}; PEM, the server's certificate first",
        doc="The certificate the front door presents, with its chain.",
        without="one is made, signed by a server CA of our own",
    ),
    Variable(
        name="INGEST_TLS_KEY",
        field="tls_key",
        parse=parse_path,
        accepts=f"{_A_PATH}; PEM, unencrypted",
        doc="The private key of `INGEST_TLS_CERT`.",
        without="made together with the certificate",
    ),
    Variable(
        name="INGEST_TLS_CA",
        field="tls_ca",
        parse=parse_path,
        accepts=f"{_A_PATH}; PEM",
        doc="The CA that signed `INGEST_TLS_CERT`: what enrolment tokens pin.",
        without="the CA at the end of `INGEST_TLS_CERT`, else that certificate itself",
    ),
    Variable(
        name="INGEST_AGENT_CA_CERT",
        field="agent_ca_cert",
        parse=parse_pem_source,
        accepts=f"{_A_PATH}, or PEM: the CA, and the chain above it up to a self-signed root",
        doc="Your own agent CA, which signs agents' certificates ([authority.md](authority.md)).",
        without="one is made in the data directory",
    ),
    Variable(
        name="INGEST_AGENT_CA_KEY",
        field="agent_ca_key",
        parse=parse_pem_source,
        accepts=f"{_A_PATH}, or PEM: RSA from 2048 bits, P-256, P-384, P-521 or Ed25519; sealed with our secret or not at all",
        doc="The private key of INGEST_AGENT_CA_CERT.",
        without="one is made in the data directory",
        secret=True,
        mask=mask_pem_source,
    ),
    Variable(
        name="INGEST_JWT_KEY_FILE",
        field="jwt_key_file",
        parse=parse_path,
        accepts=f"{_A_PATH}; PEM, RSA, sealed or not; generated when missing at the first start",
        doc="The key that signs agent tokens: back it up, without it every agent needs a new token.",
        without=f"`/var/lib/ct-ops/jwt_key.pem` when it exists, else `{DATA_DIR_MARK}/jwt_key.pem`",
    ),
    Variable(
        name="INGEST_SECRET_FILE",
        field="secret_file",
        parse=parse_path,
        accepts=f"{_A_PATH}; its first line is the secret, at least 16 characters",
        doc="The secret that seals the private keys of the CAs and of agent tokens: back it up, apart from them.",
        default=f"{DATA_DIR_MARK}/secret",
    ),
    Variable(
        name="INGEST_WEB_SERVER_CERT",
        field="web_server_cert",
        parse=parse_optional_path,
        accepts=f"{_A_PATH}; PEM; empty: off",
        doc="The certificate of the HTTPS server that agents download from: when it changes, agents are told.",
        default=DEFAULT_WEB_SERVER_CERT,
        empty_counts=True,
    ),
    Variable(
        name="INGEST_SAMPLES_KEEP",
        field="samples_keep",
        parse=parse_duration,
        accepts=FORM,
        doc="How long samples of collectors are kept as they came, at least; older ones are kept rolled up.",
        default="2d",
    ),
    Variable(
        name="INGEST_SAMPLES_KEEP_1M",
        field="samples_keep_1m",
        parse=parse_duration,
        accepts=f"{FORM}; not shorter than INGEST_SAMPLES_KEEP",
        doc="How long samples rolled up by the minute are kept, at least.",
        default="14d",
    ),
    Variable(
        name="INGEST_SAMPLES_KEEP_1H",
        field="samples_keep_1h",
        parse=parse_duration,
        accepts=f"{FORM}; not shorter than INGEST_SAMPLES_KEEP_1M",
        doc="How long samples rolled up by the hour are kept, at least.",
        default="180d",
    ),
    Variable(
        name="INGEST_SAMPLES_KEEP_1D",
        field="samples_keep_1d",
        parse=parse_duration,
        accepts=f"{FORM}; not shorter than INGEST_SAMPLES_KEEP_1H",
        doc="How long samples rolled up by the day are kept, at least.",
        default="1830d",
    ),
    Variable(
        name="INGEST_SERIES_KEEP",
        field="series_keep",
        parse=parse_duration,
        accepts=FORM,
        doc="How long a series that nobody delivers any more is kept, with everything rolled up of it.",
        default="90d",
    ),
    Variable(
        name="INGEST_TOKENS_KEEP",
        field="tokens_keep",
        parse=parse_duration,
        accepts=FORM,
        doc="How long an enrolment token that was revoked, has expired or is used up is still listed.",
        default="90d",
    ),
    Variable(
        name="INGEST_HISTORY_KEEP",
        field="history_keep",
        parse=parse_duration,
        accepts=FORM,
        doc="How long it is kept what was decided on agents, and who was deleted; the latest decision stays.",
        default="730d",
    ),
    Variable(
        name="INGEST_AUDIT_KEEP",
        field="audit_keep",
        parse=parse_duration,
        accepts=FORM,
        doc="How long the database keeps entries of the audit log; the files keep them longer.",
        default="1825d",
    ),
    Variable(
        name="INGEST_AUDIT_FILES_KEEP",
        field="audit_files_keep",
        parse=parse_duration,
        accepts=FORM,
        doc="How long a file of the audit log is kept after the next one was begun.",
        default="3650d",
    ),
    Variable(
        name="INGEST_AUDIT_FILE_MIB",
        field="audit_file_mib",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How large a file of the audit log may become before a new one is begun; one is also begun every 30 days.",
        default="16",
    ),
    Variable(
        name="INGEST_SERIES_PER_AGENT",
        field="series_per_agent",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many series of samples an agent may have; those of more are refused, and its host is shown as degraded.",
        default="5000",
    ),
    Variable(
        name="INGEST_MAX_CONNECTIONS",
        field="max_connections",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many connections a process serves at a time; more are closed before TLS, and agents come back later ([limits.md](limits.md)).",
        without="what the limit of open files allows, three for each",
    ),
    Variable(
        name="INGEST_MAX_HANDSHAKES",
        field="max_handshakes",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many TLS handshakes may be under way at a time.",
        default="1000",
    ),
    Variable(
        name="INGEST_MAX_HANDSHAKES_PER_ADDRESS",
        field="max_handshakes_per_address",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="The same, of one address.",
        default="256",
    ),
    Variable(
        name="INGEST_CONNECTIONS_PER_SECOND",
        field="connections_per_second",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many new connections a process takes in a second.",
        default="2000",
    ),
    Variable(
        name="INGEST_CONNECTIONS_PER_SECOND_PER_ADDRESS",
        field="connections_per_second_per_address",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="The same, from one address; a whole site may be behind it.",
        default="1000",
    ),
    Variable(
        name="INGEST_MAX_STREAMS",
        field="max_streams",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many calls a connection of an agent may have open.",
        default="8",
    ),
    Variable(
        name="INGEST_MAX_MESSAGE_KIB",
        field="max_message_kib",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How large a message of an agent may be, in KiB.",
        default="1024",
    ),
    Variable(
        name="INGEST_FRAMES_PER_SECOND",
        field="frames_per_second",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many frames a second are read of one agent; more wait, nothing is refused.",
        default="10",
    ),
    Variable(
        name="INGEST_REGISTRATIONS_PER_MINUTE_PER_ADDRESS",
        field="registrations_per_address",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many registrations of one address a process answers in a minute.",
        without="as many as come",
    ),
    Variable(
        name="INGEST_REGISTRATIONS_PER_MINUTE_PER_TOKEN",
        field="registrations_per_token",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="The same, with one enrolment token.",
        without="as many as come",
    ),
    Variable(
        name="INGEST_MAX_PENDING_PER_TOKEN",
        field="pending_per_token",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many agents of one enrolment token may wait for approval.",
        default="1000",
    ),
    Variable(
        name="INGEST_WRITER_QUEUE",
        field="writer_queue",
        parse=parse_count,
        accepts="1 to 1000000",
        doc="How many writes may wait for the database; more are refused as unavailable, and agents keep what they have.",
        default="20000",
    ),
    Variable(
        name="AGENT_DIST_DIR",
        field="agent_dist_dir",
        parse=parse_path,
        accepts=_A_PATH,
        doc="The shelf: the folder of agents that hosts download, kept by `ct-ops-server release`.",
        default="/var/lib/ct-ops/agent-dist",
    ),
    Variable(
        name="INGEST_AGENT_DOWNLOAD_BASE_URL",
        field="download_base_url",
        parse=parse_base_url,
        accepts="`https://host[:port][/path]`",
        doc="Where hosts download agents, when a proxy stands before this server.",
        without="`https://` and the public address",
        old_names=("AGENT_DOWNLOAD_BASE_URL",),
    ),
    Variable(
        name="WEB_TLS_CERT",
        field="web_tls_cert",
        parse=parse_optional_path,
        accepts=f"{_A_PATH}; PEM; empty: off",
        doc="The certificate of the proxy that INGEST_AGENT_DOWNLOAD_BASE_URL names: install bundles carry it, and the one-line install pins its key.",
        default=DEFAULT_WEB_TLS_CERT,
        empty_counts=True,
    ),
    Variable(
        name="CT_OPS_TRUST_PROXY_HEADERS",
        field="trust_proxy_headers",
        parse=parse_flag,
        accepts="true or false",
        doc="Whether limits on port 8080 count the client that X-Forwarded-For names: only behind a proxy that overwrites it.",
        default="false",
    ),
    Variable(
        name="CT_OPS_LOADTEST_ADMIN_KEY",
        field="loadtest_admin_key",
        parse=parse_credential,
        accepts="printable ASCII without spaces",
        doc="Who knows it may delete hosts whose name starts with `loadtest-` ([load-testing.md](load-testing.md)): only where load tests run.",
        without="nobody can: the endpoint answers 503",
        secret=True,
        mask=mask_credential,
    ),
    Variable(
        name="INGEST_LOG_LEVEL",
        field="log_level",
        parse=parse_log_level,
        accepts=", ".join(LOG_LEVELS),
        doc="How much is logged.",
        default="info",
    ),
    Variable(
        name="INGEST_LOG_FORMAT",
        field="log_format",
        parse=parse_log_format,
        accepts=", ".join(LOG_FORMATS),
        doc="How the log is written: lines for people, or an object a line ([observability.md](observability.md)).",
        default="text",
    ),
    Variable(
        name="INGEST_WORKERS",
        field="workers",
        parse=parse_workers,
        accepts="1 to 64; more than 1 on PostgreSQL only",
        doc="How many worker processes serve agents on the same port ([scaling.md](scaling.md)).",
        default="1",
    ),
    Variable(
        name="INGEST_DRAIN",
        field="drain",
        parse=parse_duration,
        accepts=FORM,
        doc="How long a stop may take: what was received by then is stored and acknowledged.",
        default="10s",
    ),
)

DEFERRED: dict[str, bool] = {
    # Name and whether it is a secret. First the seed document's, in its order, …
    "BETTER_AUTH_SECRET": True,
    "BETTER_AUTH_URL": False,
    "BETTER_AUTH_TRUSTED_ORIGINS": False,
    "REQUIRE_EMAIL_VERIFICATION": False,
    "NEXT_PUBLIC_APP_URL": False,
    "NODE_ENV": False,
    "INGEST_WS_URL": False,
    "ANSIBLE_API_URL": False,
    "CT_CVE_SERVICE_TOKENS": True,
    "CT_CVE_INVENTORY_PUSH_TARGETS": True,
    "LICENCE_PUBLIC_KEY_PATH": False,
    "LICENCE_PUBLIC_KEY": True,
    "LICENCE_REVOCATION_URL": False,
    "INGEST_TERMINAL_TRUSTED_ORIGINS": False,
    "NGINX_HTTPS_PORT": False,
    "NGINX_HTTP_PORT": False,
    # … then what existing servers read beyond it.
    "INGEST_LATEST_AGENT_VERSION": False,
    "INGEST_RELEASE_MANIFEST_PATH": False,
    "LDAP_ENCRYPTION_KEY": True,
}

OF_AGENTS = frozenset(
    (
        "CT_OPS_DATA_DIR",
        "CT_OPS_ENROLMENT_TOKEN",
        "CT_OPS_HEARTBEAT_INTERVAL_SECS",
        "CT_OPS_HOSTNAME",
        "CT_OPS_INGEST_ADDRESS",
        "CT_OPS_INGEST_CA_CERT",
        "CT_OPS_INGEST_TLS_SKIP_VERIFY",
        "CT_OPS_ORG_TOKEN",
        "CT_OPS_TAGS",
        "CT_OPS_VERSION",
    )
)


def names_with_meaningful_emptiness() -> frozenset[str]:
    """Return every name whose empty value says something."""
    return frozenset(variable.name for variable in VARIABLES if variable.empty_counts)


def names_in_effect() -> frozenset[str]:
    """Return every name that has an effect: with old ones, and ``_FILE`` of secrets."""
    return frozenset(
        spelling
        for variable in VARIABLES
        for name in (variable.name, *variable.old_names)
        for spelling in ((name, f"{name}_FILE") if variable.secret else (name,))
    )


def names_deferred() -> frozenset[str]:
    """Return every name that is accepted without effect."""
    return frozenset(DEFERRED) | {f"{name}_FILE" for name, secret in DEFERRED.items() if secret}
