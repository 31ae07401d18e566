"""``ct-ops-server enrol sign``: admit hosts whose requests were carried here, and write the replies to carry back.

What the server decides about each file is printed; a file that leads to no reply makes the command fail, and the
others of the same command are signed all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ct_ops_proto.carried_enrolment import parse_request
from ct_ops_proto.carried_files import CarriedFileError, check_place, read_carried, write_carried
from ct_ops_proto.carried_form import LARGEST_BYTES, CarriedFormError
from ct_ops_proto.enrolment_token import MAX_ACCEPTED_BYTES, TokenIncompleteError, parse_token
from ct_ops_server.cli.asking import ask, signed
from ct_ops_server.cli.carried_output import signed_lines, waiting_lines
from ct_ops_server.cli.exits import Exit, Stop
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.terms import tags_of

_MOST_FILES = 1_000
_SUFFIX = ".reply.json"
_UNREADABLE_NAME = "the file's name has characters that cannot be shown; rename it and sign it again"
_path = click.Path(path_type=Path)


@click.group()
def enrol() -> None:
    """Enrol hosts that cannot reach this server: their requests are carried here, and replies back."""


@enrol.command()
@click.argument("requests", metavar="FILE...", nargs=-1, required=True, type=_path)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="REPLY",
    type=_path,
    help="The file to write; with several requests, or a folder of them, a folder that is there.",
)
@click.option(
    "--token",
    "--token-id",
    "token",
    metavar="TOKEN",
    help="Admit by this token: its id, a prefix of it, or its label.",
)
@click.option(
    "--token-file", type=_path, metavar="FILE", help="Admit by the token in this file; it is not sent."
)
@click.option("--approve", is_flag=True, help="Admit a new host at once, without waiting for an approval.")
@click.option("--tag", "tags", multiple=True, metavar="K:V", help="Put on a new agent; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, without the replies.")
def sign(
    *,
    requests: tuple[Path, ...],
    output: Path,
    token: str | None,
    token_file: Path | None,
    approve: bool,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Sign requests that hosts made with `ct-ops-agent enrol --request FILE`.

    The decision is the one that a host on the network would get. A new host waits for `agent approve` unless
    --approve is given or its token approves; sign the same file again then.
    """
    if (token is not None) + (token_file is not None) + bool(approve or tags) > 1:
        raise click.UsageError(
            "a token has terms of its own: give --token, or --token-file, or --approve and --tag"
        )
    body = {"token": token, "token_sha256": _digest_in(token_file), "approve": approve, "tags": tags_of(tags)}
    outcomes = [_sign(request, reply, body) for request, reply in pairs_of(requests, output)]
    if as_json:
        print_json([{key: value for key, value in each.items() if key != "lines"} for each in outcomes])
    for outcome in outcomes:
        for line in outcome["lines"]:
            click.echo(line, err=as_json)
    _fail_with(outcomes)


def pairs_of(requests: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Return each request with the file for its reply; a folder stands for the ``.json`` files in it.

    Raises:
        click.UsageError: several requests for one reply, too many, or two replies of one name.
    """
    found = [file for request in requests for file in _files_of(request)]
    if not found:
        raise click.UsageError("there is no request in that folder: they are files that end in .json")
    if len(found) > _MOST_FILES:
        raise click.UsageError(f"{len(found)} files are too many: at most {_MOST_FILES} at a time")
    if not output.is_dir():
        if len(found) > 1 or requests[0].is_dir():
            raise click.UsageError(f"{output} is no folder; several replies need one (-o FOLDER)")
        return [(found[0], output)]
    replies = [
        output / f"{file.name.removesuffix('.json').removesuffix('.request')}{_SUFFIX}" for file in found
    ]
    if len(set(replies)) < len(replies):
        raise click.UsageError("two of the requests have the same name; sign them one by one")
    return list(zip(found, replies, strict=True))


def _digest_in(token_file: Path | None) -> str | None:
    """Return the SHA-256 of the token in a file."""
    if token_file is None:
        return None
    try:
        text = read_carried(token_file, at_most=MAX_ACCEPTED_BYTES).decode(errors="replace")
        return parse_token(text.strip()).digest.hex()
    except CarriedFileError as error:
        raise click.UsageError(str(error)) from error
    except TokenIncompleteError as error:
        raise click.UsageError(f"{token_file}: {error}") from error


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.glob("*.json") if not file.name.endswith(_SUFFIX))


def _sign(request: Path, reply: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Return what became of one file."""
    if not str(request).isprintable():  # whoever had the stick chose it, and it would be printed
        return _failed(Path(ascii(request.name)), Exit.FAILED, _UNREADABLE_NAME)
    try:
        check_place(reply)
        data = read_carried(request, at_most=LARGEST_BYTES)
        parse_request(data)
        answer = ask("POST", "/v1/carried-requests", signed({**body, "request": data.decode()}))
        return _kept(request, reply, answer)
    except (CarriedFormError, CarriedFileError) as error:
        return _failed(request, Exit.FAILED, str(error))
    except Stop as stop:
        return _failed(request, stop.exit_code, stop.message)


def _kept(request: Path, reply: Path, answer: dict[str, Any]) -> dict[str, Any]:
    text = answer.pop("reply")
    about = {"file": str(request), "exit_code": 0, **answer}
    if text is None:
        return about | {"exit_code": int(Exit.FAILED), "lines": waiting_lines(request, answer)}
    written = write_carried(reply, text)
    lines = signed_lines(request, reply, answer, is_open_to_others=written.is_open_to_others)
    return about | {"reply_file": str(reply), "lines": lines}


def _failed(request: Path, code: int, sentence: str) -> dict[str, Any]:
    return {
        "file": str(request),
        "exit_code": int(code),
        "error": sentence,
        "lines": [f"{request}: {sentence}"],
    }


def _fail_with(outcomes: Sequence[dict[str, Any]]) -> None:
    """End with the code of the first file that led to no reply."""
    codes = [outcome["exit_code"] for outcome in outcomes if outcome["exit_code"]]
    if codes:
        click.get_current_context().exit(codes[0])
