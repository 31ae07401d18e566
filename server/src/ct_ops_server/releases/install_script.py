"""The script that installs an agent on a host, and the one line that runs it. Pure.

::

    curl -fsSLk --pinnedpubkey 'sha256//…' 'https://host:9443/api/agent/install' | CT_OPS_ENROLMENT_TOKEN='…' sh

Trust in it, link by link: the operator got the line from this server; the line pins the server's public key, so
the script is this server's; the script holds the SHA-256 of each artefact, so what is installed is what was on the
shelf, whoever sent it; and the manifest's signature is verified too where the host can.

The token is in the line and nowhere else: not in a URL, not in an argument (rule 24).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ct_ops_server.config.addresses import parse_address
from ct_ops_server.releases.artefact import ARCHITECTURES, Form, newest
from ct_ops_server.releases.manifest import Manifest, to_bytes
from ct_ops_server.releases.shelf import Found
from ct_ops_server.releases.shell_quoting import quoted
from ct_ops_server.releases.templates import filled, template

INSTALL_PATH = "/api/agent/install"
NOTHING_TO_INSTALL = (
    "the shelf holds no agent for linux, so hosts cannot install one from here: make one with `make agent-release` "
    "or take a released archive, then `ct-ops-server release add ct-ops-agent-linux-amd64-vVERSION.tar.gz`"
)
_ARCHIVES = (Form.TAR_XZ, Form.TAR_GZ)
_STRICT_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


class AgentAddressError(ValueError):
    """What was asked for is no address of a server."""

    def __init__(self) -> None:
        super().__init__("Invalid agent ingest address")


@dataclass(frozen=True, slots=True)
class InstallSource:
    """Where hosts download from, by which key they know it, and where their agents connect then."""

    base_url: str
    """``https://host[:port][/path]``, without a slash at its end."""
    pin: str
    """As curl's ``--pinnedpubkey`` reads it (``sha256//…``); empty: the host's own roots decide."""
    addresses: tuple[str, ...]
    """Where agents connect, most preferred first; never empty."""

    @property
    def url(self) -> str:
        """The script's."""
        return self.base_url + INSTALL_PATH


def public_key_pin(spki_der: bytes) -> str:
    """Return the pin of a public key (DER SubjectPublicKeyInfo), as curl and wget read it."""
    return "sha256//" + base64.b64encode(hashlib.sha256(spki_der).digest()).decode()


def agent_address(text: str) -> str:
    """Return ``host:port`` for agents, stricter than our own configuration: it came in a URL.

    Raises:
        AgentAddressError: it is none.
    """
    try:
        address = parse_address(text)
    except ValueError as error:
        raise AgentAddressError from error
    host = address.rpartition(":")[0]
    if not host.startswith("[") and not all(map(_STRICT_LABEL.fullmatch, host.split("."))):
        raise AgentAddressError
    return address


def one_line(source: InstallSource, token: str) -> str:
    """Return the line that an operator pastes into a shell of a host."""
    curl = f"curl -fsSLk --pinnedpubkey {quoted(source.pin)}" if source.pin else "curl -fsSL"
    return f"{curl} {quoted(source.url)} | CT_OPS_ENROLMENT_TOKEN={quoted(token)} sh"


@dataclass(frozen=True, slots=True)
class InstallOffer:
    """The one line for a token, or why there is none: exactly one of the two."""

    line: str | None = field(repr=False)
    problem: str | None


def install_offer(source: InstallSource | None, artefacts: Iterable[Found], token: str) -> InstallOffer:
    """Return what to run on a host, as far as this server can install anything."""
    if source is None:
        return InstallOffer(
            None, "this server does not know its address: set INGEST_PUBLIC_ADDRESS=host:port"
        )
    if not archives_of(artefacts):
        return InstallOffer(None, NOTHING_TO_INSTALL)
    return InstallOffer(one_line(source, token), None)


def install_script(
    source: InstallSource,
    artefacts: Iterable[Found],
    *,
    release_key: str = "",
    address: str | None = None,
    skip_verify: bool = False,
) -> str:
    """Return the script.

    Args:
        source: where it downloads from.
        artefacts: the shelf.
        release_key: the public half as PEM, empty when there is none.
        address: where the agent connects, when not to the first of the source's.
        skip_verify: whether neither the web server nor, on first contact, the agent's server is verified.
    """
    return filled(
        template("one-line.sh"),
        {
            "BASE_URL": quoted(source.base_url),
            "PIN": quoted(source.pin),
            "ADDRESS": quoted(address or source.addresses[0]),
            "SKIP_VERIFY": quoted("yes" if skip_verify else ""),
            "HOST_CHECKS": template("host-checks.sh").rstrip("\n"),
            "ARTEFACTS": "\n".join(_branch(found) for found in archives_of(artefacts)),
            "RELEASE_KEY": quoted(release_key.rstrip("\n")),
        },
    )


def archives_of(artefacts: Iterable[Found]) -> list[Found]:
    """Return the newest archive of our agent for each processor and form, of those that have a manifest."""
    known = {found.artefact.file_name: found for found in artefacts if found.manifest is not None}
    wanted = [(architecture, form) for architecture in ARCHITECTURES for form in _ARCHIVES]
    best = [
        newest((found.artefact for found in known.values()), system="linux", architecture=arch, form=form)
        for arch, form in wanted
    ]
    return [known[artefact.file_name] for artefact in best if artefact is not None]


def _branch(found: Found) -> str:
    manifest = found.manifest
    assert manifest is not None
    signature = base64.b64encode(found.signature or b"").decode()
    values = {
        "file": manifest.file_name,
        "version": manifest.version,
        "length": str(manifest.length),
        "sha256": manifest.sha256,
        "floor": manifest.glibc_floor,
        "manifest": _text(manifest),
        "signature": signature,
    }
    words = " ".join(f"{name}={quoted(value)}" for name, value in values.items())
    return f"\t{quoted(f'{manifest.architecture}.{manifest.form}')}) {words} ;;"


def _text(manifest: Manifest) -> str:
    """Return what is signed without its last newline, which the shell adds again."""
    return to_bytes(manifest).decode().removesuffix("\n")
