"""The install bundle: one archive that is carried to a host, and everything the host needs is in it. Pure.

::

    ct-ops-agent-linux-amd64/
      ct-ops-agent-linux-amd64-v0.1.0.tar.gz        the agent, as it is on the shelf
      ct-ops-agent-linux-amd64-v0.1.0.tar.gz.manifest[.sig]
      agent.toml                                    what install.sh installs; holds no secret
      enrolment-token                               0600; not in a bundle without token
      server-ca.crt                                 what the agent believes
      server-cert.pem                               the certificate of a proxy that agents download from
      install.sh  README.md  sbom.cdx.json  release-key.pub
      SHA256SUMS                                    over every file but itself and
      SHA256SUMS.sig                                its signature by the release key

The same contents are the same bytes. A key that is not on this server signs afterwards, with `signed`.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.releases.artefact import Form
from ct_ops_server.releases.manifest import Manifest, to_bytes
from ct_ops_server.releases.packing import EARLIEST, Entry
from ct_ops_server.releases.shell_quoting import quoted
from ct_ops_server.releases.templates import filled, template

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
RELEASE_KEY = "release-key.pub"
TOKEN_FILE = "enrolment-token"
_SBOM = "sbom.cdx.json"
_MOST_SBOM_BYTES = 16 * 1024 * 1024
_GROWS = 5
"""Unpacked, an agent takes less than so many times its archive."""

_ABOUT = {
    "agent.toml": "the configuration that is installed",
    TOKEN_FILE: "the enrolment token: keep it as secret as a password",
    "server-ca.crt": "the authority of the server's certificate, which the agent believes",
    "server-cert.pem": "the certificate of the HTTPS server that agents download from",
    "install.sh": "verifies this folder and installs the agent",
    _SBOM: "what the agent is made of (CycloneDX)",
    RELEASE_KEY: "the public half of the release key",
    "README.md": "this page",
    SUMS: "the SHA-256 of every other file",
}


class BundleError(ValueError):
    """What was asked for cannot be put into a bundle; the text says why."""


@dataclass(frozen=True, slots=True)
class BundleToken:
    """The enrolment token of a bundle."""

    text: str = field(repr=False)
    max_uses: int | None = None
    expires: str = ""
    """As people read it; empty: never."""


@dataclass(frozen=True, slots=True)
class BundleParts:
    """Everything that goes into a bundle."""

    manifest: Manifest
    archive: bytes = field(repr=False)
    address: str
    ca_pem: str
    tags: tuple[tuple[str, str], ...] = ()
    token: BundleToken | None = None
    manifest_signature: bytes | None = None
    web_certificate_pem: str = ""
    release_key_pem: str = ""


def folder_of(manifest: Manifest) -> str:
    """Return the name of the folder, and of the bundle without its ending."""
    return f"ct-ops-agent-{manifest.system}-{manifest.architecture}"


def bundle_entries(parts: BundleParts) -> list[Entry]:
    """Return the files of a bundle, not signed yet.

    Raises:
        BundleError: the archive is not what its manifest says, or a tag cannot be written down.
    """
    if hashlib.sha256(parts.archive).hexdigest() != parts.manifest.sha256:
        raise BundleError(
            f"{parts.manifest.file_name} is not what its manifest says; add it to the shelf again"
        )
    files = _files(parts)
    readme = _readme(parts, [*(entry.name for entry in files), "README.md", SUMS])
    files.append(Entry("README.md", 0o644, readme.encode()))
    files.sort(key=lambda entry: entry.name)
    folder = folder_of(parts.manifest)
    inside = [*files, Entry(SUMS, 0o644, _sums(files))]
    return [Entry(f"{folder}/{entry.name}", entry.mode, entry.content) for entry in inside]


def signed(entries: Sequence[Entry], key: ec.EllipticCurvePrivateKey) -> list[Entry]:
    """Return the files with the signature over their sums, in the place of one that is there.

    Raises:
        BundleError: the bundle names another release key.
    """
    sums = next(entry for entry in entries if entry.name.endswith(f"/{SUMS}"))
    folder = sums.name.removesuffix(SUMS)
    _refuse_another_key(entries, key)
    signature = key.sign(sums.content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    others = [entry for entry in entries if entry.name != folder + SIGNATURE]
    return [*others, Entry(folder + SIGNATURE, 0o644, signature)]


def date_of(archive: bytes) -> int:
    """Return when the agent was built, by the first entry of its archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
            first = tar.next()
    except (tarfile.TarError, EOFError, OSError):
        return EARLIEST
    return int(first.mtime) if first else EARLIEST


def date_of_bundle(entries: Iterable[Entry]) -> int:
    """Return the date of the files of a bundle."""
    agents = (entry.content for entry in entries if entry.name.endswith((".tar.gz", ".tar.xz")))
    return date_of(next(agents))


def _files(parts: BundleParts) -> list[Entry]:
    name = parts.manifest.file_name
    texts = {
        "agent.toml": _agent_toml(parts),
        "server-ca.crt": parts.ca_pem,
        "server-cert.pem": parts.web_certificate_pem,
        RELEASE_KEY: parts.release_key_pem,
    }
    files = [Entry(file, 0o644, text.encode()) for file, text in texts.items() if text]
    files += [
        Entry(name, 0o644, parts.archive),
        Entry(f"{name}.manifest", 0o644, to_bytes(parts.manifest)),
        Entry("install.sh", 0o755, _install_script(parts).encode()),
    ]
    if parts.manifest_signature is not None:
        files.append(Entry(f"{name}.manifest.sig", 0o644, parts.manifest_signature))
    if parts.token is not None:
        files.append(Entry(TOKEN_FILE, 0o600, f"{parts.token.text}\n".encode()))
    if (sbom := _sbom_in(parts.archive)) is not None:
        files.append(Entry(_SBOM, 0o644, sbom))
    return files


def _sums(files: Iterable[Entry]) -> bytes:
    lines = (f"{hashlib.sha256(entry.content).hexdigest()}  {entry.name}\n" for entry in files)
    return "".join(lines).encode()


def _agent_toml(parts: BundleParts) -> str:
    tags = ", ".join(_toml_text(_tag_text(key, value)) for key, value in parts.tags)
    return filled(template("agent.toml"), {"ADDRESS": _toml_text(parts.address), "TAGS": f"[{tags}]"})


def _tag_text(key: str, value: str) -> str:
    if not key.strip() or ":" in key or not (key + value).isprintable():
        raise BundleError(
            f"tag: {key!r}:{value!r} needs a key without a colon, and printable characters only"
        )
    return f"{key}:{value}"


def _toml_text(text: str) -> str:
    """Return a TOML string: JSON's, with the one control character that JSON lets through."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _install_script(parts: BundleParts) -> str:
    return filled(
        template("offline.sh"),
        {
            "ARCHIVE": quoted(parts.manifest.file_name),
            "ARCHITECTURE": quoted(parts.manifest.architecture),
            "GLIBC_FLOOR": quoted(parts.manifest.glibc_floor),
            "UNPACKED_KIB": quoted(str(parts.manifest.length * _GROWS // 1024)),
            "HOST_CHECKS": template("host-checks.sh").rstrip("\n"),
        },
    )


def _readme(parts: BundleParts, names: Iterable[str]) -> str:
    manifest = parts.manifest
    about = _ABOUT | {
        manifest.file_name: "the agent",
        f"{manifest.file_name}.manifest": "what the agent's archive is, as the release key signs it",
        f"{manifest.file_name}.manifest.sig": "that signature",
    }
    return filled(
        template("bundle-readme.md"),
        {
            "VERSION": manifest.version,
            "ARCHITECTURE": manifest.architecture,
            "ADDRESS": parts.address,
            "TOKEN": _about_token(parts.token),
            "FILES": "\n".join(f"| `{name}` | {about[name]} |" for name in sorted(names)),
            "SIGNED": _about_signature(parts.release_key_pem),
            "GLIBC_FLOOR": manifest.glibc_floor or "of any version",
            "UNPACKER": "xz" if manifest.form is Form.TAR_XZ else "gzip",
        },
    )


def _about_token(token: BundleToken | None) -> str:
    if token is None:
        return (
            "This bundle holds no enrolment token: set `CT_OPS_ENROLMENT_TOKEN`, or add `--token-file FILE`, "
            "when you run `./install.sh`."
        )
    uses = {None: "any number of hosts", 1: "one host: it is single-use"}.get(
        token.max_uses, f"{token.max_uses} hosts in all, also those that got it otherwise"
    )
    until = f"until {token.expires}" if token.expires else "without end"
    return f"`{TOKEN_FILE}` admits {uses}, {until}. Delete this folder when it is done."


def _about_signature(release_key_pem: str) -> str:
    if not release_key_pem:
        return "This installation has no release key, so the bundle is not signed."
    return (
        "Whoever can change this folder can change `release-key.pub` too: compare the digest that is printed with "
        "that of your release key, or name the key as you know it with `--release-key FILE`."
    )


def _sbom_in(archive: bytes) -> bytes | None:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
            for member in tar:
                if member.name.endswith(f"/{_SBOM}") and member.isfile() and member.size <= _MOST_SBOM_BYTES:
                    file = tar.extractfile(member)
                    return file.read() if file else None
    except (tarfile.TarError, EOFError, OSError):
        return None
    return None


def _refuse_another_key(entries: Iterable[Entry], key: ec.EllipticCurvePrivateKey) -> None:
    from ct_ops_server.releases.release_key import public_pem  # noqa: PLC0415  it needs files, this does not

    named = next((entry.content for entry in entries if entry.name.endswith(f"/{RELEASE_KEY}")), None)
    if named != public_pem(key.public_key()):
        raise BundleError("this key is not the release key of the server that made the bundle")
