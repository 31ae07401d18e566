"""``ct-ops-server release``: what agents and installers can download from this server.

The shelf is a folder (AGENT_DIST_DIR), so these commands work on files and need no running server; a server
that runs sees what they did at the next request.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ct_ops_server.cli.audit import note
from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.output import print_json, table

if TYPE_CHECKING:
    from ct_ops_server.config.schema import Settings
    from ct_ops_server.releases.shelf import Found, Shelf

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def release() -> None:
    """Put agents on the shelf that hosts download from."""


@release.command()
@click.argument("file", type=_EXISTING)
@click.option("--key", type=_EXISTING, help="The release key, when it is kept elsewhere.")
@click.option("--signature", type=_EXISTING, help="A signature of `release manifest FILE`, made elsewhere.")
@_json
def add(*, file: Path, key: Path | None, signature: Path | None, as_json: bool) -> None:
    """Put FILE on the shelf: checked, copied whole, with its hash, signed where there is a key."""
    from ct_ops_server.releases.manifest import ManifestError, sign, to_bytes, verify  # noqa: PLC0415  keeps --help light
    from ct_ops_server.releases.release_key import load_public_key, load_signing_key  # noqa: PLC0415
    from ct_ops_server.releases.shelf import ShelfError  # noqa: PLC0415

    settings, shelf = _open()
    with errors_as_exits():
        public = load_public_key(settings.data_dir)
        private = load_signing_key(settings.data_dir, key) if public and signature is None else None
    try:
        manifest = shelf.describe(file, glibc_floor=_floor_beside(file))
        signed = sign(manifest, private) if private else None
        if signature is not None:
            signed = signature.read_bytes()
            if public is None:
                raise Stop(
                    Exit.FAILED, "there is no release key to verify it by: make one with `release key init`"
                )
            verify(to_bytes(manifest), signed, public)
        found = shelf.add(file, manifest, signed)
    except (ShelfError, ManifestError) as error:
        raise Stop(Exit.FAILED, str(error)) from error
    note("release.put", found.artefact.file_name, sha256=found.sha256, bytes=found.length)
    if as_json:
        print_json(_view(found))
        return
    click.echo(f"{found.artefact.file_name} is on the shelf, {_size(found.length)}, SHA-256 {found.sha256}")
    if signed is None:
        click.echo(
            "It is not signed: make a release key with `ct-ops-server release key init`, then add it again."
        )


@release.command("list")
@_json
def list_(*, as_json: bool) -> None:
    """List what can be downloaded."""
    _, shelf = _open()
    found = shelf.everything()
    print_json([_view(one) for one in found]) if as_json else click.echo(_table(found, shelf.folder))


@release.command()
@click.argument("name", metavar="FILE")
def show(name: str) -> None:
    """Show everything known of an artefact, as JSON."""
    _, shelf = _open()
    for found in shelf.everything():
        if found.artefact.file_name == name:
            print_json(_view(found))
            return
    raise Stop(
        Exit.FAILED, f"there is no {name} on the shelf; `ct-ops-server release list` shows what there is"
    )


@release.command()
@click.argument("name", metavar="FILE")
def remove(name: str) -> None:
    """Take an artefact off the shelf."""
    from ct_ops_server.releases.shelf import ShelfError  # noqa: PLC0415  keeps --help light

    _, shelf = _open()
    try:
        shelf.remove(name)
    except ShelfError as error:
        raise Stop(Exit.FAILED, str(error)) from error
    note("release.removed", name)
    click.echo(f"{name} is off the shelf")


@release.command()
@click.argument("file", type=_EXISTING)
def manifest(file: Path) -> None:
    """Print the bytes to sign for FILE, where the release key is kept on another machine.

    There: openssl dgst -sha256 -sign release-key.pem -out FILE.sig MANIFEST
    """
    from ct_ops_server.releases.manifest import to_bytes  # noqa: PLC0415  keeps --help light
    from ct_ops_server.releases.shelf import ShelfError  # noqa: PLC0415

    _, shelf = _open()
    try:
        described = shelf.describe(file, glibc_floor=_floor_beside(file))
    except ShelfError as error:
        raise Stop(Exit.FAILED, str(error)) from error
    click.echo(to_bytes(described), nl=False)


@release.group()
def key() -> None:
    """The key that releases are signed with."""


@key.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where its private half goes (default: the data directory).",
)
def init(output: Path | None) -> None:
    """Make the release key. With -o on a stick or another disk it never stays on this server."""
    from ct_ops_server.releases.release_key import (  # noqa: PLC0415
        PRIVATE_FILE,
        PUBLIC_FILE,
        fingerprint,
        make_release_key,
    )

    with errors_as_exits():
        settings = _settings()
        private = output or settings.data_dir / PRIVATE_FILE
        public = make_release_key(settings.data_dir, private)
    note("release.key_made", private.name, public_key_sha256=fingerprint(public))
    click.echo(f"made the release key {private}")
    click.echo(
        f"its public half is {settings.data_dir / PUBLIC_FILE}; `ct-ops-server release key show` prints it"
    )


@key.command("show")
def show_key() -> None:
    """Print the public half of the release key."""
    from ct_ops_server.releases.release_key import load_public_key, public_pem  # noqa: PLC0415

    with errors_as_exits():
        public = load_public_key(_settings().data_dir)
    if public is None:
        raise Stop(Exit.FAILED, "there is no release key yet: make one with `ct-ops-server release key init`")
    click.echo(public_pem(public).decode(), nl=False)


def _settings() -> Settings:
    import os  # noqa: PLC0415

    from ct_ops_server.config.load import load_settings  # noqa: PLC0415
    from ct_ops_server.ownership import become_owner  # noqa: PLC0415

    settings = load_settings(os.environ)
    become_owner(settings.data_dir)
    return settings


def _open() -> tuple[Settings, Shelf]:
    from ct_ops_server.releases.shelf import Shelf  # noqa: PLC0415  keeps --help light

    with errors_as_exits():
        settings = _settings()
    return settings, Shelf(settings.agent_dist_dir)


def _floor_beside(file: Path) -> str:
    """Return the C library that a build of ours says it needs, from the description beside its archive."""
    stem = file.name.partition(".tar.")[0]
    beside = file.with_name(f"{stem}.build.json")
    return str(json.loads(beside.read_text()).get("glibc_floor", "")) if beside.is_file() else ""


def _view(found: Found) -> dict[str, object]:
    artefact = found.artefact
    return {
        "file": artefact.file_name,
        "os": artefact.system,
        "arch": artefact.architecture,
        "format": artefact.form.value,
        "version": artefact.version,
        "length": found.length,
        "sha256": found.sha256,
        "glibc_floor": found.manifest.glibc_floor if found.manifest else "",
        "signed": found.signature is not None,
        "path": str(found.path),
    }


def _table(found: list[Found], folder: Path) -> str:
    if not found:
        return f"the shelf {folder} is empty: put an agent there with `ct-ops-server release add FILE`"
    rows = [
        (
            f"{one.artefact.system}/{one.artefact.architecture}",
            one.artefact.version or "unknown",
            one.artefact.form.value,
            _size(one.length),
            "yes" if one.signature is not None else "no",
            one.artefact.file_name,
        )
        for one in found
    ]
    return table(("PLATFORM", "VERSION", "FORMAT", "SIZE", "SIGNED", "FILE"), rows)


def _size(length: int) -> str:
    return f"{length / 1e6:.1f} MB"
