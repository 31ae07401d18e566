"""``ct-ops-server audit``: who decided what, taken away and verified.

``verify`` needs neither a server nor a database nor this host: files, and the public key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ct_ops_server.cli.asking import ask, path_of, seconds
from ct_ops_server.cli.audit_output import entries_table, report_lines, report_view
from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.output import print_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from ct_ops_server.audit.heads import SignedHead
    from ct_ops_server.audit.reading import Found

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def audit() -> None:
    """See who decided what, take it away, and verify that nothing was changed."""


@audit.command("list")
@click.option("--agent", help="Only about this agent: an id or its beginning, also of a deleted one.")
@click.option("--token", help="Only about this enrolment token: an id or its beginning.")
@click.option("--action", help="Only this action, as agent.revoked, or all of a kind, as agent.")
@click.option("--actor", help="Only of this user, agent:ID, enrolment or server.")
@click.option("--since", help="Only of this time until now, as 12h or 7d.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="At most so many, newest first.",
)
@_json
def list_(*, since: str | None, as_json: bool, **wanted: Any) -> None:
    """List decisions, the latest first."""
    _refuse_unknown(wanted["action"])
    found = ask("GET", path_of("audit", since_ms=_moment_ms(since, "--since"), **wanted))
    print_json(found) if as_json else click.echo(entries_table(found))


@audit.command()
@click.option("--since", help="From so long ago, as 30d (default: from the oldest entry on).")
@click.option("--until", help="Until so long ago (default: until now).")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The new file."
)
def export(*, since: str | None, until: str | None, output: Path) -> None:
    """Write decisions to a file that can be verified anywhere, with a signed head at its end."""
    since_ms, until_ms = _moment_ms(since, "--since"), _moment_ms(until, "--until")
    count = 0
    try:
        with _whole_or_not_at_all(output) as file:
            for lines in _pages(since_ms, until_ms):
                file.write(lines)
                count += lines.count('{"entry":')
    except FileExistsError as error:
        raise Stop(Exit.FAILED, f"{output} exists already: name a new file") from error
    except OSError as error:
        raise Stop(Exit.FAILED, f"{output} cannot be written: {error.strerror}") from error
    click.echo(
        f"{count} entries are in {output}; verify them with: ct-ops-server audit verify {output} --key FILE"
    )


@audit.command()
@click.argument("files", nargs=-1, type=_EXISTING, metavar="[FILE]...")
@click.option(
    "--key",
    "key_files",
    type=_EXISTING,
    multiple=True,
    help="The public keys of the server (audit.pub), for signed heads: all that are in the file.",
)
@click.option(
    "--head",
    "head_files",
    type=_EXISTING,
    multiple=True,
    help="A signed head that was kept elsewhere (head.json): what it names has to be there.",
)
@click.option("--database", is_flag=True, help="Verify what is in the database, with the server's help.")
@_json
def verify(
    *,
    files: tuple[Path, ...],
    key_files: tuple[Path, ...],
    head_files: tuple[Path, ...],
    database: bool,
    as_json: bool,
) -> None:
    """Verify exported FILEs, or the files in the data directory: nothing changed, missing, moved or cut off.

    Ends with 1 when something is wrong, and says where.
    """
    if files and database:
        raise click.UsageError("name files, or --database, not both")
    from ct_ops_server.audit.examination import examine  # noqa: PLC0415  keeps --help light
    from ct_ops_server.audit.reading import read_all  # noqa: PLC0415

    with _file_errors():
        folder = None if files else _audit_folder()
        lines = _database_lines() if database else read_all(files or _own_files(folder))
        keys = _keys(key_files, folder)
        report = examine(lines, keys=keys, kept=_heads(head_files, folder))
    if as_json:
        print_json(report_view(report, key_known=bool(keys)))
    else:
        click.echo("\n".join(report_lines(report, key_known=bool(keys))))
    if not report.is_whole:
        raise Stop(Exit.FAILED, f"the audit log is not whole: {len(report.breaks)} finding(s)")


@audit.command()
def key() -> None:
    """Print the public key that verifies signed heads, in PEM form; behind it those of before, when it was lost."""
    click.echo(ask("GET", path_of("audit", "key"))["public_pem"], nl=False)


def note(action: str, subject: str, **details: str | int) -> None:
    """Have the audit log record what a command did by itself; warn when that cannot be done."""
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light
    from ct_ops_server.config.load import load_settings  # noqa: PLC0415

    with errors_as_exits():
        if not load_settings(os.environ).secret_file.exists():
            return  # there is no installation yet, and this shall not make one
    body = {"actor": actor(), "action": action, "subject": subject, "details": details}
    try:
        ask("POST", path_of("audit"), body)
    except (Stop, click.ClickException) as error:
        click.echo(f"warning: the audit log does not have this: {error}", err=True)


def _refuse_unknown(action: str | None) -> None:
    """Refuse what is no action: nothing would be found, and it would look as if nothing had been decided."""
    from ct_ops_server.audit.decisions import Action  # noqa: PLC0415  keeps --help light

    known = {each.value for each in Action}
    kinds = {each.partition(".")[0] for each in known}
    if action is None or action in known | kinds:
        return
    near = sorted(each for each in known if each.partition(".")[0] == action.partition(".")[0])
    raise click.BadParameter(
        f"{action} is none: use {', '.join(near or sorted(kinds))}", param_hint="--action"
    )


def _moment_ms(ago: str | None, option: str) -> int | None:
    return None if ago is None else int((time.time() - seconds(ago, option)) * 1000)


@contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[TextIO]:
    """Make a new file that others cannot read; half of one, without the signed head at its end, is removed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _pages(since_ms: int | None, until_ms: int | None) -> Iterator[str]:
    after = None
    while True:
        page = ask("GET", path_of("audit", "export", after=after, since_ms=since_ms, until_ms=until_ms))
        yield page["lines"]
        after = page["last"]
        if after is None:
            return


def _database_lines() -> Iterator[Found]:
    from ct_ops_server.audit.reading import parse_text  # noqa: PLC0415  keeps --help light

    for number, lines in enumerate(_pages(None, None), 1):
        yield from parse_text(lines.encode(), f"database, page {number}")


def _audit_folder() -> Path:
    from ct_ops_server.audit.reading import DIRECTORY  # noqa: PLC0415  keeps --help light
    from ct_ops_server.config.load import load_settings  # noqa: PLC0415

    with errors_as_exits():
        return load_settings(os.environ).data_dir / DIRECTORY


def _own_files(folder: Path | None) -> Sequence[Path]:
    from ct_ops_server.audit.reading import audit_files  # noqa: PLC0415  keeps --help light

    assert folder is not None
    found = audit_files(folder)
    if not found:
        raise Stop(Exit.FAILED, f"there are no files of an audit log in {folder}: name some")
    return found


def _keys(named: Sequence[Path], folder: Path | None) -> list[Ed25519PublicKey]:
    """Return the keys that were named; without any, that of the data directory when its own files are verified."""
    from ct_ops_server.authority.audit_key import PUBLIC_FILE  # noqa: PLC0415  keeps --help light

    beside = None if folder is None else folder.parent / PUBLIC_FILE
    if named or beside is None or not beside.exists():
        # Never that one too: whoever wrote the files anew has put his own there.
        return [key for path in named for key in _keys_in(path)]
    return [*_keys_in(beside)]


def _keys_in(path: Path) -> Sequence[Ed25519PublicKey]:
    from ct_ops_server.audit.heads import parse_public_keys  # noqa: PLC0415  keeps --help light

    try:
        return parse_public_keys(path.read_bytes())
    except ValueError as error:
        raise Stop(Exit.USAGE, f"{path} holds no public Ed25519 key in PEM form: name audit.pub") from error


def _heads(named: Sequence[Path], folder: Path | None) -> list[SignedHead]:
    from ct_ops_server.audit.reading import HEAD_FILE  # noqa: PLC0415  keeps --help light

    latest = None if folder is None else folder / HEAD_FILE
    return heads_of([*named, *([latest] if latest is not None and latest.exists() else [])])


def heads_of(paths: Sequence[Path]) -> list[SignedHead]:
    """Return the signed heads in files.

    Raises:
        Stop: one holds none.
        OSError: one cannot be read.
    """
    from ct_ops_server.audit.reading import heads_in  # noqa: PLC0415  keeps --help light

    heads: list[SignedHead] = []
    for path in paths:
        signed = heads_in(path)
        if not signed:
            raise Stop(Exit.USAGE, f"{path} holds no signed head: name a head.json")
        heads += signed
    return heads


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Stop(
            Exit.REFUSED, f"{error.filename} may not be read: run this as root or as the server's user"
        ) from error
    except OSError as error:
        raise Stop(Exit.FAILED, f"{error.filename} cannot be read: {error.strerror}") from error
