"""``ct-ops-agent enrol``: enrolment of a host that cannot reach its server, by two files on a stick.

The data directory is worked in as the user it belongs to. A reply is installed while the directory is held; one that comes
while an agent runs there and waits for an identity is left for that agent. One that is enrolled has to be stopped first.
"""

from __future__ import annotations

import secrets
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ct_ops_agent import __version__
from ct_ops_agent.cli.configuration import config_option, load
from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.config.load import Flags
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.errors import DataDirectoryError, DirectoryInUseError, EnrolmentRefusedError, Refusal
from ct_ops_agent.identity.carried_request import keep_open_request, leave_reply, load_open_requests
from ct_ops_agent.identity.credentials import CredentialStore
from ct_ops_agent.identity.files import locked_directory
from ct_ops_agent.identity.keystore import KeyPair, keep_key_pair, load_key_pair, parse_public_key
from ct_ops_agent.identity.owner import acting_as_owner
from ct_ops_agent.status.text import shown
from ct_ops_proto.carried_enrolment import (
    REQUEST_ID_BYTES,
    CarriedReply,
    fingerprint,
    parse_reply,
    reply_text,
    request_text,
)
from ct_ops_proto.carried_files import CarriedFileError, check_place, read_carried, write_carried
from ct_ops_proto.carried_form import LARGEST_BYTES, CarriedFormError

if TYPE_CHECKING:
    from ct_ops_agent.carried import CarriedAdmission
    from ct_ops_proto.carried_enrolment import CarriedRequest

_SKEW_WORTH_TELLING_S = 60.0


@click.command(short_help="Enrol without a network, by files that are carried.")
@config_option
@click.option(
    "-request",
    "--request",
    "request_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a request, to be carried to the server.",
)
@click.option(
    "-reply",
    "--reply",
    "reply_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Install the reply that was carried back.",
)
@click.option(
    "-pin",
    "--pin",
    metavar="HEX",
    help="With --reply: only of the server whose CA has this SHA-256; 32 digits will do.",
)
def enrol(
    *, config_file: Path | None, request_file: Path | None, reply_file: Path | None, pin: str | None
) -> None:
    """Enrol this host with a server that it cannot reach now.

    Write a request here, have it signed there (ct-ops-server enrol sign FILE -o REPLY), install the reply here.
    """
    if (request_file is None) == (reply_file is None):
        raise click.UsageError("give --request FILE or --reply FILE")
    if pin is not None and reply_file is None:
        raise click.UsageError("--pin goes with --reply")
    config = load(Flags(config_file=config_file))
    with errors_as_exits():
        if request_file is not None:
            _say_request(request_file, write_request(config, request_file))
        elif reply_file is not None:
            _say_reply(install_reply(config, reply_file, pin or ""))


def write_request(config: AgentConfig, file: Path) -> CarriedRequest:
    """Write a request, and return it. Nothing in it is secret.

    Raises:
        DataDirectoryError: the data directory, or the file, cannot be used.
    """
    from ct_ops_agent.carried import make_request  # noqa: PLC0415 - loads cryptography
    from ct_ops_agent.host import read_host_facts  # noqa: PLC0415 - as above: --help needs none of it
    from ct_ops_agent.vitals import addresses_of, read_interfaces  # noqa: PLC0415 - as above

    try:
        check_place(file)
    except CarriedFileError as error:
        raise DataDirectoryError(str(error)) from error
    with acting_as_owner(config.data_dir):
        keys = load_key_pair(config.data_dir) or _kept_or_made(config.data_dir)
        request = make_request(
            keys,
            read_host_facts(hostname=config.hostname),
            addresses_of(read_interfaces()),
            config.tags,
            agent_version=__version__,
            request_id=secrets.token_bytes(REQUEST_ID_BYTES),
            now_unix=time.time(),
        )
        keep_open_request(config.data_dir, keys.key_id, request.request_id)
    try:
        write_carried(file, request_text(request))
    except CarriedFileError as error:
        raise DataDirectoryError(str(error)) from error
    return request


@dataclass(frozen=True)
class Installed:
    """What became of a reply."""

    reply: CarriedReply
    admission: CarriedAdmission
    is_left: bool
    """It was left for the agent that runs here, which installs it at its next try."""


def install_reply(config: AgentConfig, file: Path, pin: str) -> Installed:
    """Install a reply, or leave it for an agent that runs here and waits for an identity.

    Raises:
        ConfigError: the pin is none.
        EnrolmentRefusedError: it is no reply, or not one for this host; nothing was changed.
        DataDirectoryError: the file or the data directory cannot be used, or an enrolled agent runs there.
    """
    from ct_ops_agent.carried import install, parse_pin  # noqa: PLC0415 - loads cryptography

    typed = parse_pin(pin) if pin else ""
    reply = _read_reply(file)
    directory, store = config.data_dir, CredentialStore(config.data_dir)
    with acting_as_owner(directory):
        try:
            with locked_directory(directory):
                admission = _judged(config, store, reply, typed)
                install(directory, store, admission)
            return Installed(reply, admission, is_left=False)
        except DirectoryInUseError:
            if store.load(load_key_pair(directory)).identity is not None:
                raise
            admission = _judged(config, store, reply, typed)
            believed = replace(reply, server_ca_pem=admission.route.trust_bundle_pem)
            leave_reply(directory, reply_text(believed))
            return Installed(reply, admission, is_left=True)


def _judged(config: AgentConfig, store: CredentialStore, reply: CarriedReply, pin: str) -> CarriedAdmission:
    from ct_ops_agent.assembly import beginning_of, read_wishes  # noqa: PLC0415 - loads gRPC
    from ct_ops_agent.carried import Vouchers, judge_reply  # noqa: PLC0415 - loads cryptography

    directory = config.data_dir
    wishes = read_wishes(config, enrolled=False)
    wished_pem = "" if wishes.tls_skip_verify else wishes.ca_pem
    vouchers = Vouchers(
        pin=pin,
        hint=wishes.hint.ca_sha256 if wishes.hint else b"",
        configured_pem="" if wishes.ca_is_installed else wished_pem,
        known_pem=store.load(None).route.trust_bundle_pem or wished_pem,
    )
    keys, waiting = load_key_pair(directory), load_open_requests(directory)
    return judge_reply(reply, keys, waiting, vouchers, now_unix=time.time(), began_with=beginning_of(config))


def _read_reply(file: Path) -> CarriedReply:
    try:
        return parse_reply(read_carried(file, at_most=LARGEST_BYTES))
    except CarriedFileError as error:
        raise DataDirectoryError(str(error)) from error
    except CarriedFormError as error:
        raise EnrolmentRefusedError(f"{file}: {error}", Refusal("", error.fault.value, "")) from error


def _kept_or_made(directory: Path) -> KeyPair:
    from ct_ops_agent.identity.certificates import make_key_pair  # noqa: PLC0415 - loads cryptography

    with locked_directory(directory):  # an agent that runs here without a key is about to make one
        if kept := load_key_pair(directory):  # another one was quicker, and its key may be on a stick already
            return kept
        keys = make_key_pair()
        keep_key_pair(directory, keys)
    return keys


def _say_request(file: Path, request: CarriedRequest) -> None:
    public = parse_public_key(request.public_key_pem) or b""
    there, reply = shlex.quote(file.name), shlex.quote(f"{file.name.removesuffix('.json')}.reply.json")
    click.echo(f"{file}: the request of {shown(request.hostname)}")
    click.echo(f"  key            {fingerprint(bytes.fromhex(KeyPair(b'', public).key_id))}")
    click.echo("Carry it to the server, and type there:")
    click.echo(f"  ct-ops-server enrol sign {there} -o {reply}")
    click.echo("It has to be signed within 30 days. Then carry the reply back, and type here:")
    click.echo("  ct-ops-agent enrol --reply REPLY --pin HEX")


def _say_reply(installed: Installed) -> None:
    from ct_ops_agent.carried import ca_digests  # noqa: PLC0415 - loads cryptography

    identity, route = installed.admission.identity, installed.admission.route
    reply = installed.reply
    # What the reply says is shown with care: it was on a stick.
    click.echo(
        f"Enrolled as agent {identity.agent_id} ({shown(reply.hostname)}), at {' '.join(route.addresses)}"
    )
    click.echo(f"  key            {fingerprint(bytes.fromhex(identity.keys.key_id))}")
    for digest in ca_digests(route.trust_bundle_pem):
        click.echo(f"  server's CA    {fingerprint(digest)}")
    if not installed.admission.is_vouched_for:
        click.echo(_COMPARE, err=True)
    behind_s = reply.made_at_unix - time.time()
    if behind_s > _SKEW_WORTH_TELLING_S:
        click.echo(
            f"warning: this host's clock is at least {behind_s:.0f} s behind the server's: set it", err=True
        )
    click.echo(_LEFT if installed.is_left else "Start the agent: systemctl start ct-ops-agent")


_COMPARE = (
    "Nothing on this host vouches for that server: compare its fingerprint with what ct-ops-server enrol sign "
    "printed. If it is another one, stop the agent, make a new request, and give --pin with its reply."
)
_LEFT = "The agent that runs here takes it at its next try, within 15 minutes; at once after: systemctl restart ct-ops-agent"
