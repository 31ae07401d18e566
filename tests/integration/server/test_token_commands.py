"""Tokens and refusals from a shell: what became of a token, and what a tired operator types."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import prepared_commands


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An installation without a running server: commands open it themselves."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "INGEST_DATA_DIR": str(tmp_path / "server"),
        "INGEST_PUBLIC_ADDRESS": "ops.example.com:9443",
    }


def run(environ: dict[str, str], *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return prepared_commands.run("ct_ops_server", *arguments, environ=environ, said=said)


def ctl(environ: dict[str, str], *arguments: str) -> Any:
    done = run(environ, *arguments, "--json")
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_a_token_is_made_listed_shown_and_revoked(environ: dict[str, str]) -> None:
    """Its secret is seen once, with the line to run; a second revocation says that it was one."""
    terms = ("--label", "web", "--network", "192.0.2.0/24", "--hostname", "web-*", "--max-uses", "3")
    made = ctl(environ, "token", "create", *terms)
    (listed,) = ctl(environ, "token", "list")
    shown = ctl(environ, "token", "show", "web")
    first = ctl(environ, "token", "revoke", made["id"], "--reason", "done")
    second = ctl(environ, "token", "revoke", made["id"][:6])

    assert made["token"] in made["run_line"]
    assert (["192.0.2.0/24"], "web-*", "active") == (
        listed["networks"],
        listed["hostname_pattern"],
        listed["state"],
    )
    assert made["token"].partition(".")[0] not in json.dumps([listed, shown, first])
    assert ([], []) == (shown["admitted"], shown["refused"])
    assert ("revoked", "done", False, True) == (
        first["state"],
        first["revoked_reason"],
        first["was_revoked_before"],
        second["was_revoked_before"],
    )


def test_a_token_string_is_explained_without_its_secret(environ: dict[str, str]) -> None:
    """Where it points and what it pins; a cut one is told as cut."""
    token = ctl(environ, "token", "create", "--label", "x")["token"]
    explained = run(environ, "token", "decode", "-", said=token + "\n")
    cut = run(environ, "token", "decode", "-", said=token[:-3])

    assert "ops.example.com:9443" in explained.stdout
    assert token.partition(".")[0] not in explained.stdout + explained.stderr
    assert (0, 1) == (explained.returncode, cut.returncode)
    assert "Traceback" not in cut.stderr


TERMS = (
    *("--label", "web", "--auto-approve", "--max-uses", "3", "--expires", "7d", "--tag", "env:prod"),
    *("--tag", "site:lab", "--network", "192.0.2.0/24", "--network", "2001:db8::/32", "--hostname", "web-*"),
)


def test_an_imported_token_takes_the_same_terms_as_a_new_one(environ: dict[str, str]) -> None:
    """All of them; and how often it was used before it came here."""
    made = ctl(environ, "token", "create", *TERMS)
    imported = ctl(environ, "token", "import", "--sha256", "ab" * 32, "--uses", "2", *TERMS)
    terms = ("label", "auto_approve", "max_uses", "tags", "networks", "hostname_pattern")

    assert {"env": "prod", "site": "lab"} == imported["tags"]
    assert ["192.0.2.0/24", "2001:db8::/32"] == imported["networks"]
    assert [made[term] for term in terms] == [imported[term] for term in terms]
    assert made["expires_at"][:13] == imported["expires_at"][:13]
    assert (0, 2, "active") == (made["uses"], imported["uses"], imported["state"])


def test_an_imported_token_that_was_used_up_there_is_used_up_here(environ: dict[str, str]) -> None:
    """Nobody gets a second helping by the move."""
    used = ("--label", "old", "--max-uses", "3", "--uses", "3")

    assert "exhausted" == ctl(environ, "token", "import", "--sha256", "cd" * 32, *used)["state"]


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("tok_" + "a" * 32, "without its hint"),
        ("tok_" + "a" * 20, "may have been cut off"),
        ("cm4w0opaque", "opaque: sent to the server as it is"),
    ],
)
def test_a_token_that_points_nowhere_is_told_as_what_it_is(
    environ: dict[str, str], token: str, says: str
) -> None:
    """One of ours without its second half, one that was cut, one of an existing server."""
    assert says in ctl(environ, "token", "decode", token)["form"]


def test_a_token_of_another_server_is_taken_over_by_its_hash_once(environ: dict[str, str]) -> None:
    """The second time says that it is known."""
    import_it = ("token", "import", "--sha256", "ab" * 32, "--label", "old")
    assert "active" == ctl(environ, *import_it)["state"]
    again = run(environ, *import_it)

    assert 1 == again.returncode
    assert "known here" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("token", "show", "nobody"), 1, "token list"),
        (("token", "create", "--label", "x", "--network", "192.0.2.1/24"), 2, "192.0.2.0/24"),
        (("token", "create", "--label", "x", "--network", "everywhere"), 2, "everywhere"),
        (("token", "create", "--label", ""), 2, "say what the token is for"),
        (("token", "create", "--label", "x" * 101), 2, "at most 100 characters"),
        (("token", "create", "--label", "x", "--tag", "env"), 2, "'env' is no key:value"),
        (("token", "create", "--label", "x", "--tag", "a:b", "--tag", "a:c"), 2, "'a' has two values"),
        (("token", "create", "--label", "x", "--tag", "a" * 101 + ":b"), 2, "more than 100 characters"),
        (("token", "create", "--label", "x", "--hostname", "web 1"), 2, "can match no hostname"),
        (("token", "create", "--label", "x", "--expires", "7"), 2, "30s, 5m, 12h, 7d"),
        (("token", "create", "--label", "x", "--expires", "0d"), 2, "longer than nothing"),
        (("token", "create", "--label", "x", "--expires", "99999d"), 2, "a hundred years"),
        (("token", "create", "--label", "x", "--max-uses", "0"), 2, "1<=x<=1000000"),
        (("token", "import", "--sha256", "abc", "--label", "x"), 2, "64"),
        (("token", "import", "--sha256", "ab" * 32, "--label", "x", "--network", "lab"), 2, "no network"),
        (
            ("token", "import", "--sha256", "ab" * 32, "--label", "x", "--max-uses", "1", "--uses", "2"),
            2,
            "less than the 2 uses",
        ),
        (("refusals", "list", "--reason", "nonsense"), 2, "reason"),
    ],
)
def test_a_mistake_gets_a_sentence_and_its_exit_code(
    environ: dict[str, str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    """No traceback, and what to do."""
    done = run(environ, *arguments)

    assert code == done.returncode, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_longest_life_that_can_be_said_can_be_had(environ: dict[str, str]) -> None:
    """The command line and the server agree about a hundred years."""
    assert ctl(environ, "token", "create", "--label", "x", "--expires", "36500d")["expires_at"] > "2100"


def test_nobody_was_refused_yet(environ: dict[str, str]) -> None:
    """An empty list says so to a person, and is an empty array to a program."""
    assert [] == ctl(environ, "refusals", "list")
    assert "nobody" in run(environ, "refusals", "list").stdout
