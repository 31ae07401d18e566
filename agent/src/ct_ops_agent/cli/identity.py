"""``ct-ops-agent identity``: who this host is to its server, and a new key for it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from ct_ops_agent.cli.configuration import config_option, json_option, load
from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.cli.status import look
from ct_ops_agent.config.load import Flags
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.control_plane import AnchorSource, Route
from ct_ops_agent.errors import DataDirectoryError, EnrolmentRefusedError, Refusal, UnreachableError
from ct_ops_agent.identity.carried_request import load_open_requests
from ct_ops_agent.identity.credentials import (
    AGENT_CA_NAME,
    LEAF_NAME,
    STATE_NAME,
    TRUST_BUNDLE_NAME,
    CredentialStore,
    Identity,
)
from ct_ops_agent.identity.keystore import PRIVATE_KEY_NAME, PUBLIC_KEY_NAME, load_key_pair
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_agent.renewal import FEATURE, token_life
from ct_ops_agent.status.report import Report, State, format_time
from ct_ops_agent.status.text import shown

_LOOK_EVERY_S = 0.2
_DECIDED_BY = {
    AnchorSource.LEARNT: "what the server announced",
    AnchorSource.OPERATOR: "ingest.ca_cert_file",
    AnchorSource.HOST: "the host's own roots",
    AnchorSource.UNVERIFIED: "what was shown at first contact (tls_skip_verify)",
}


@click.group()
def identity() -> None:
    """Who this host is to its server."""


@identity.command()
@config_option
@json_option
def show(*, config_file: Path | None, as_json: bool) -> None:
    """Show key, certificate and agent token, without their secrets."""
    config = load(Flags(config_file=config_file))
    with errors_as_exits():
        document = describe_identity(open_identity(config.data_dir), config.data_dir)
        document |= describe_trust(config)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for name, value in document.items():
        said = ", ".join(value) if isinstance(value, list) else str(value)
        click.echo(f"{name.replace('_', ' '):<24}{shown(said)}")


@identity.command("rotate-key", short_help="Replace the key pair; the agent stays the same.")
@config_option
@click.option(
    "-timeout",
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=120.0,
    metavar="SECONDS",
    show_default=True,
    help="How long to wait for the new key.",
)
def rotate_key(*, config_file: Path | None, timeout_s: float) -> None:
    """Replace this agent's key pair by a new one, without a new enrolment.

    The running agent does it with its next heartbeat; with none running, the next start does.
    """
    config = load(Flags(config_file=config_file))
    with errors_as_exits():
        before = open_identity(config.data_dir).keys.key_id
        report, verdict = look(config, now=time.time())
        if verdict.is_running and report:
            refuse_without_ability(report)
        rotation = KeyRotation(config.data_dir)
        rotation.request()
        if not verdict.is_running:
            click.echo("no agent runs here: the key is replaced at its next start")
            return
        click.echo(f"new key id: {wait_for_new_key(config, before, timeout_s)}")


def open_identity(data_dir: Path) -> Identity:
    """Return the identity in a data directory.

    Raises:
        DataDirectoryError: it holds none, or none that can be read.
    """
    keys = load_key_pair(data_dir)
    stored = CredentialStore(data_dir).load(keys)
    if stored.identity is None:
        raise DataDirectoryError(f"{data_dir} holds no identity: {_so_far(stored.agent_id, data_dir)}")
    return stored.identity


def _so_far(agent_id: str, data_dir: Path) -> str:
    if load_open_requests(data_dir).ids:
        return "a request of this host was carried away and waits for its reply (ct-ops-agent enrol --reply FILE)"
    return f"this host waits for approval as agent {agent_id}" if agent_id else "this host is not enrolled"


def describe_identity(found: Identity, data_dir: Path) -> dict[str, Any]:
    """Return what may be shown of an identity."""
    from ct_ops_agent.identity.certificates import describe_leaf  # noqa: PLC0415 - loads cryptography

    leaf, life = describe_leaf(found.leaf_pem), token_life(found.agent_token)
    files = (PRIVATE_KEY_NAME, PUBLIC_KEY_NAME, LEAF_NAME, AGENT_CA_NAME, TRUST_BUNDLE_NAME, STATE_NAME)
    return {
        "agent_id": found.agent_id,
        "key_id": found.keys.key_id,
        "leaf_subject": leaf.subject,
        "leaf_serial": leaf.serial,
        "leaf_not_before": format_time(leaf.not_before_unix),
        "leaf_not_after": format_time(leaf.not_after_unix),
        "authority": leaf.issuer,
        "agent_token_expires_at": format_time(life.expires_unix) if life else None,
        "files": [str(data_dir / name) for name in files if (data_dir / name).exists()],
    }


def describe_trust(config: AgentConfig) -> dict[str, Any]:
    """Return which server CAs are believed, and who decided that."""
    from ct_ops_agent.assembly import read_wishes  # noqa: PLC0415 - loads grpc
    from ct_ops_agent.identity.certificates import describe_anchors  # noqa: PLC0415 - loads cryptography
    from ct_ops_agent.route import plan_route  # noqa: PLC0415 - as above

    stored = CredentialStore(config.data_dir).load(None).route
    plan = plan_route(read_wishes(config, enrolled=True), stored, str)
    if not isinstance(plan, Route):
        return {"server_cas_decided_by": "first contact, which is still to come", "server_cas": []}
    return {
        "server_cas_decided_by": _DECIDED_BY[plan.source],
        "server_cas": [
            f"{each.sha256[:16]} {each.subject} until {format_time(each.not_after_unix)}"
            for each in describe_anchors(plan.roots_pem)
        ],
    }


def refuse_without_ability(report: Report) -> None:
    """Refuse a rotation that the server would not take.

    Raises:
        UnreachableError: the agent is not connected.
        EnrolmentRefusedError: the server cannot do it.
    """
    if report.state is not State.CONNECTED:
        raise UnreachableError(f"the agent is not connected ({report.state.value}); see ct-ops-agent status")
    if FEATURE not in report.features:
        raise EnrolmentRefusedError(
            "this server cannot replace keys (an existing server); the key stays as it is",
            Refusal("", "unsupported", ""),
        )


def wait_for_new_key(config: AgentConfig, before: str, timeout_s: float) -> str:
    """Return the id of the key that replaced another one.

    Raises:
        DataDirectoryError: the server did not take the new key.
        UnreachableError: the time is up; the request stays.
    """
    rotation, ends = KeyRotation(config.data_dir), time.monotonic() + timeout_s
    while time.monotonic() < ends:
        keys = load_key_pair(config.data_dir)
        if keys and keys.key_id != before and not rotation.is_requested:
            return keys.key_id
        if not rotation.is_requested and not rotation.is_under_way:
            raise DataDirectoryError("the server did not take the new key; the agent's log says why")
        time.sleep(_LOOK_EVERY_S)
    raise UnreachableError(
        f"no new key after {timeout_s:.0f} s; the request stays, and the agent's log says what it waits for"
    )
