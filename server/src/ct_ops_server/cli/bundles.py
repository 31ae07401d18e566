"""``ct-ops-server bundle build``: one file that is carried to a host, and the agent is installed from it.

The file has the mode 0600: it may hold a token. It gets its name when it is whole; when it cannot be written, the
token that was made for it is revoked.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.terms import seconds_of, tags_of

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_TOKEN_ID, _SIGNED = "x-ct-ops-token-id", "x-ct-ops-signed"


@click.group()
def bundle() -> None:
    """Build what is carried to a host that is not to be reached otherwise."""


_OPTIONS = (
    click.option("--os", "system", type=click.Choice(["linux"]), default="linux", help="What the host runs."),
    click.option(
        "--arch",
        type=click.Choice(["amd64", "arm64"]),
        default="amd64",
        show_default=True,
        help="The processor of the host.",
    ),
    click.option("--token", metavar="TOKEN|-", help="Put this token into it; - reads it from standard input."),
    click.option("--create-token", is_flag=True, help="Make a token for one host and a week (the default)."),
    click.option("--no-token", is_flag=True, help="Put none into it: it is asked for at the installation."),
    click.option("--label", default="", help="Of the token that is made."),
    click.option("--expires", metavar="DURATION", default="7d", show_default=True, help="Of that token."),
    click.option("--auto-approve", is_flag=True, help="That token admits without an operator's approval."),
    click.option("--tag", "tags", multiple=True, metavar="K:V", help="Claimed by the agent; repeatable."),
    click.option("--address", metavar="HOST:PORT", help="Where the agent connects (default: the public address)."),
    click.option("--format", "packing", type=click.Choice(["zip", "tar.gz"]), help="Default: as FILE ends, else tar.gz."),
    click.option("--key", type=_EXISTING, help="The release key, when it is kept elsewhere."),
    click.option("--unsigned", is_flag=True, help="Do not sign it: install.sh then wants --checksum-only."),
    click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE", help="Where it goes; 0600."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)  # fmt: skip


def _with_options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@bundle.command()
@_with_options
def build(*, output: Path, key: Path | None, as_json: bool, **said: Any) -> None:
    """Build an install bundle: agent, configuration, authority, token and installer in one FILE."""
    from ct_ops_server.cli.admin import ask_for_bytes  # noqa: PLC0415  keeps --help light

    body = _body(said, output, sign_here=key is not None)
    with _becoming(output) as file, errors_as_exits():
        answer = ask_for_bytes("POST", "/v1/bundles", body)
        token_id = answer.headers.get(_TOKEN_ID)
        with _taken_back_unless_done(token_id):
            file.write(answer.content if key is None else _signed(answer.content, key))
            file.flush()
            os.fsync(file.fileno())
    is_signed = key is not None or answer.headers[_SIGNED] == "true"
    report = {"file": str(output), "length": output.stat().st_size, "signed": is_signed, "token_id": token_id}
    print_json(report) if as_json else _say(report)


def _body(said: dict[str, Any], output: Path, *, sign_here: bool) -> dict[str, Any]:
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415

    if sum((said["token"] is not None, said["create_token"], said["no_token"])) > 1:
        raise click.UsageError("--token, --create-token and --no-token exclude one another")
    body = {
        "actor": actor(),
        "os": said["system"],
        "arch": said["arch"],
        "format": said["packing"] or ("zip" if output.suffix == ".zip" else "tar.gz"),
        "address": said["address"],
        "tags": tags_of(said["tags"]),
        "sign": not (said["unsigned"] or sign_here),
    }
    if said["token"] is not None:
        return {**body, "token": _token_text(said["token"])}
    if said["no_token"]:
        return body
    new = {
        "label": said["label"],
        "auto_approve": said["auto_approve"],
        "expires_in_s": seconds_of(said["expires"]),
    }
    return {**body, "create_token": new}


def _token_text(said: str) -> str:
    if said == "-":
        return sys.stdin.readline().strip()
    click.echo("warning: a token on the command line can be seen by every user of this host; use -", err=True)
    return said


def _signed(content: bytes, key: Path) -> bytes:
    """Return the bundle, signed by a key that only this command may read."""
    from ct_ops_server.releases.bundle import BundleError, date_of_bundle, signed  # noqa: PLC0415
    from ct_ops_server.releases.packing import pack, packing_of, unpack  # noqa: PLC0415
    from ct_ops_server.releases.release_key import load_key_file  # noqa: PLC0415

    entries = unpack(content)
    try:
        finished = signed(entries, load_key_file(key))
    except BundleError as error:
        raise Stop(Exit.FAILED, str(error)) from error
    return pack(finished, packing_of(content), epoch=date_of_bundle(entries))


@contextmanager
def _becoming(path: Path) -> Iterator[IO[bytes]]:
    """A file (0600) that gets its name when it is whole, and is gone when it never was."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise Stop(Exit.FAILED, f"{path} cannot be written: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _taken_back_unless_done(token_id: str | None) -> Iterator[None]:
    from ct_ops_server.cli.admin import actor, ask  # noqa: PLC0415

    try:
        yield
    except BaseException as error:
        if token_id is not None:
            reason = "the install bundle that it was made for could not be written"
            ask("POST", f"/v1/tokens/{token_id}/revoke", {"actor": actor(), "reason": reason})
        if isinstance(error, OSError):
            raise Stop(Exit.FAILED, f"the bundle cannot be written: {error.strerror}") from error
        raise


def _say(report: dict[str, Any]) -> None:
    click.echo(f"{report['file']} is built, {report['length'] / 1e6:.1f} MB")
    if report["token_id"] is not None:
        click.echo(
            f"It holds a token of its own, {report['token_id']}: keep the file as secret as a password."
        )
    if not report["signed"]:
        click.echo("It is not signed: on the host, run ./install.sh --checksum-only")
    click.echo("On the host: unpack it, then run ./install.sh in its folder, as root.")
