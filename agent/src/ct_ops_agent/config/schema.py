"""The keys of ``agent.toml`` as one table, and the value the agent runs on.

The table is the only place that knows a key: loading, the list of known names, the environment
overrides, the old names and the operators' page are all read from it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.config import parse
from ct_ops_agent.config.collectors import CollectorConfig
from ct_ops_agent.control_plane import Tag
from ct_ops_proto.enrolment_token import EnrolmentToken

DEFAULT_FILE = Path("/etc/ct-ops/agent.toml")


@dataclass(frozen=True)
class Key:
    """One key of the configuration."""

    path: str
    """Dotted, as in the file."""

    environment: str
    parse: Callable[[object], object]
    default: object
    meaning: str
    """One sentence for operators."""

    flag: str = ""
    old_path: str = ""
    old_environment: str = ""
    secret: bool = False

    @property
    def section(self) -> str:
        """The TOML table the key is in."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """The key inside its table."""
        return self.path.partition(".")[2]


KEYS = (
    Key(
        path="ingest.address",
        environment="CT_OPS_INGEST_ADDRESS",
        parse=parse.parse_address,
        default=None,
        meaning="The server as `host:port`. Unset: where the enrolment token points, "
        "later where this agent enrolled, else `localhost:9443`.",
        flag="-address",
    ),
    Key(
        path="ingest.ca_cert_file",
        environment="CT_OPS_INGEST_CA_CERT",
        parse=parse.parse_path,
        default=None,
        meaning="PEM file with the authority that signed the server's certificate, or that very certificate when it is "
        "self-signed. Unset: what the enrolment token pins, else the host's own roots.",
    ),
    Key(
        path="ingest.tls_skip_verify",
        environment="CT_OPS_INGEST_TLS_SKIP_VERIFY",
        parse=parse.parse_boolean,
        default=False,
        meaning="Believe whatever certificate the server shows on first contact, and only that one from then on. "
        "Unsafe on a network you do not own.",
        flag="-tls-skip-verify",
    ),
    Key(
        path="agent.enrolment_token",
        environment="CT_OPS_ENROLMENT_TOKEN",
        parse=parse.parse_enrolment_token,
        default=None,
        meaning="The invitation that `ct-ops-server token create` printed. Needed until this host is enrolled.",
        flag="-token-file, -token -",
        old_path="agent.org_token",
        old_environment="CT_OPS_ORG_TOKEN",
        secret=True,
    ),
    Key(
        path="agent.data_dir",
        environment="CT_OPS_DATA_DIR",
        parse=parse.parse_path,
        default=Path("/var/lib/ct-ops/agent"),
        meaning="Where the agent keeps its identity. One directory for each agent, never copied to another host.",
    ),
    Key(
        path="agent.heartbeat_interval_secs",
        environment="CT_OPS_HEARTBEAT_INTERVAL_SECS",
        parse=parse.parse_interval,
        default=timedelta(seconds=30),
        meaning="Seconds between two heartbeats, 1 to 3600.",
    ),
    Key(
        path="agent.tags",
        environment="CT_OPS_TAGS",
        parse=parse.parse_tags,
        default=(),
        meaning='Labels this host claims, a list of `"key:value"`; in the environment with commas between.',
        flag="-tag",
    ),
    Key(
        path="agent.hostname",
        environment="CT_OPS_HOSTNAME",
        parse=parse.parse_hostname,
        default=None,
        meaning="The name to report instead of the host's own.",
    ),
    Key(
        path="outbox.max_bytes",
        environment="CT_OPS_OUTBOX_MAX_BYTES",
        parse=parse.parse_size,
        default=64 * 1024 * 1024,
        meaning="The most that results and samples on their way to the server may take on the disk, 8 MiB to 64 GiB. "
        "What does not fit is dropped, the oldest first, and said to the server.",
    ),
    Key(
        path="outbox.max_age_hours",
        environment="CT_OPS_OUTBOX_MAX_AGE_HOURS",
        parse=parse.parse_hours,
        default=168,
        meaning="Hours for which what cannot be delivered is kept, 1 to 8760; only those count in which the agent runs.",
    ),
    Key(
        path="agent.version",
        environment="CT_OPS_AGENT_VERSION",
        parse=parse.parse_anything,
        default=None,
        meaning="Accepted because existing files have it, and ignored: the agent knows its own version.",
    ),
)


@dataclass(frozen=True)
class AgentConfig:
    """What the agent runs on."""

    address: str | None
    ca_cert_file: Path | None
    tls_skip_verify: bool
    enrolment_token: EnrolmentToken | None
    """Shows no secret in its ``repr``."""

    data_dir: Path
    heartbeat_interval: timedelta
    tags: tuple[Tag, ...]
    hostname: str | None
    outbox_max_bytes: int = 64 * 1024 * 1024
    outbox_max_age: timedelta = timedelta(days=7)
    token_file: Path | None = None
    """The configuration file, when the enrolment token stands in it and was taken from there."""

    collectors: CollectorConfig = field(default_factory=CollectorConfig)
