"""Enrolment by sneakernet as operators type it: the three commands, their exit codes, and the files they leave."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ct_ops_agent.cli.root import main as agent_main
from ct_ops_server.cli.root import main as server_main

_TIMEOUT_S = 60


@dataclass
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Shell:
    """A host and a server that share nothing but a stick; no server runs, so the command opens it itself."""

    folder: Path
    in_processes: bool = False
    """Commands are processes of their own, which takes a second each."""

    def agent(self, host: str, *arguments: str) -> Done:
        """Run a command of the agent on a host."""
        config = self.folder / f"{host}.toml"
        config.write_text(f'[agent]\ndata_dir = "{self.folder / host}"\nhostname = "{host}"\n')
        return self._run("ct_ops_agent", agent_main, *arguments, "-config", str(config))

    def server(self, *arguments: str) -> Done:
        """Run a command of the server."""
        return self._run("ct_ops_server", server_main, *arguments)

    def request(self, host: str) -> Path:
        """Have a host make a request; return the file."""
        file = self.folder / f"{host}.request.json"
        done = self.agent(host, "enrol", "--request", str(file))
        assert done.returncode == 0, done.stderr
        return file

    def _run(self, module: str, command: click.Command, *arguments: str) -> Done:
        environment = {
            "HOME": str(self.folder),
            "INGEST_DATA_DIR": str(self.folder / "server"),
            "INGEST_PUBLIC_ADDRESS": "ops.example.com:9443",
        }
        if not self.in_processes:
            result = CliRunner().invoke(command, arguments, env=environment)
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            return Done(result.exit_code, result.stdout, result.stderr)
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=environment | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def fingerprints(text: str, name: str) -> list[str]:
    """Return the fingerprints that a command shows under a name."""
    return [line.partition(name)[2].strip() for line in text.splitlines() if line.strip().startswith(name)]


def test_three_commands_enrol_a_host_and_both_sides_show_the_same_fingerprints(shell: Shell) -> None:
    """Of the host's key and of the server's CA, to be compared by eye; the reply is its owner's alone."""
    shell.in_processes = True
    request, reply = shell.folder / "island.json", shell.folder / "reply.json"
    asked = shell.agent("island-1", "enrol", "--request", str(request))
    waiting = shell.agent("island-1", "identity", "show")
    signed = shell.server("enrol", "sign", str(request), "-o", str(reply), "--approve")
    installed = shell.agent("island-1", "enrol", "--reply", str(reply))
    shown = shell.agent("island-1", "identity", "show", "--json")

    assert (1, True) == (waiting.returncode, "waits for its reply" in waiting.stderr)
    assert [0, 0, 0, 0] == [each.returncode for each in (asked, signed, installed, shown)], signed.stderr
    assert fingerprints(asked.stdout, "key") == fingerprints(signed.stdout, "key")
    assert fingerprints(signed.stdout, "server's CA") == fingerprints(installed.stdout, "server's CA")
    assert json.loads(shown.stdout)["agent_id"] in signed.stdout
    assert stat.S_IMODE(reply.stat().st_mode) == 0o600
    assert "compare its fingerprint" in installed.stderr
    assert "systemctl start ct-ops-agent" in installed.stdout


def test_the_pin_is_typed_as_it_was_printed(shell: Shell) -> None:
    """The command that the server prints works on the host; another pin does not, and changes nothing."""
    request, reply = shell.request("island-1"), shell.folder / "reply.json"
    signed = shell.server("enrol", "sign", str(request), "-o", str(reply), "--approve")
    pin = signed.stdout.partition("--pin ")[2].split()[0]
    wrong = shell.agent("island-1", "enrol", "--reply", str(reply), "--pin", pin[::-1])
    right = shell.agent("island-1", "enrol", "--reply", str(reply), "--pin", pin)

    assert (77, 0) == (wrong.returncode, right.returncode)
    assert "not the one that the pin names" in wrong.stderr
    assert "compare its fingerprint" not in right.stderr


def test_a_host_without_approval_gets_no_reply_and_the_operator_hears_what_to_type(shell: Shell) -> None:
    """And the very commands that are printed lead on."""
    request, reply = shell.request("island-1"), shell.folder / "reply.json"
    waiting = shell.server("enrol", "sign", str(request), "-o", str(reply))
    command = next(line.split() for line in waiting.stdout.splitlines() if "agent approve" in line)
    approved = shell.server(*command[1:])
    signed = shell.server("enrol", "sign", str(request), "-o", str(reply))

    assert (1, 0, 0) == (waiting.returncode, approved.returncode, signed.returncode)
    assert "No reply was written" in waiting.stdout
    assert reply.exists()


def test_a_token_in_a_file_admits_by_its_terms(shell: Shell) -> None:
    """And one that was cut off is told before anything is asked."""
    made = shell.server("token", "create", "--label", "islands", "--auto-approve", "--tag", "site:island")
    file, reply = shell.folder / "token", shell.folder / "reply.json"
    file.write_text(made.stdout[:-3])
    request = shell.request("island-1")
    command = ("enrol", "sign", str(request), "-o", str(reply), "--token-file", str(file))
    cut = shell.server(*command)
    file.write_text(made.stdout)
    both = shell.server(*command, "--approve")
    signed = shell.server(*command)

    assert (2, 2, 0) == (cut.returncode, both.returncode, signed.returncode)
    assert "token incomplete" in cut.stderr


def test_a_folder_of_requests_is_signed_into_a_folder_and_one_bad_file_spoils_no_other(shell: Shell) -> None:
    """What is wrong with it is said, and the command fails."""
    requests, replies = shell.folder / "in", shell.folder / "out"
    requests.mkdir()
    replies.mkdir()
    shell.request("island-1").rename(requests / "island-1.request.json")
    (requests / "notes.json").write_text("ct_ops: enrolment-request\n")
    (requests / "binary.json").write_bytes(bytes(range(256)))
    (requests / "huge.json").write_bytes(b" " * 100_000)
    signed = shell.server("enrol", "sign", str(requests), "-o", str(replies), "--approve", "--json")
    outcomes = {Path(each["file"]).name: each for each in json.loads(signed.stdout)}

    assert 1 == signed.returncode
    assert ["island-1.reply.json"] == [file.name for file in replies.iterdir()]
    assert "larger than 64 KiB" in outcomes["huge.json"]["error"]
    assert "is no enrolment request of CT-Ops" in outcomes["notes.json"]["error"]
    assert "is no enrolment request of CT-Ops" in outcomes["binary.json"]["error"]
    assert "Traceback" not in signed.stderr
    assert "agent_token" not in signed.stdout + signed.stderr


@pytest.mark.parametrize("half", ["agent", "server"])
def test_attack_a_symbolic_link_at_the_output_is_not_followed(shell: Shell, half: str) -> None:
    """Whoever shares the stick cannot have root write somewhere else, or lose a reply with a token in it."""
    target, link = shell.folder / "target", shell.folder / "out.json"
    target.write_text("precious")
    link.symlink_to(target)
    if half == "agent":
        done = shell.agent("island-1", "enrol", "--request", str(link))
    else:
        done = shell.server("enrol", "sign", str(shell.request("island-1")), "-o", str(link), "--approve")

    assert 1 == done.returncode
    assert "symbolic link" in done.stdout + done.stderr
    assert target.read_text() == "precious"


def test_a_reply_that_was_lost_is_written_again(shell: Shell) -> None:
    """A stick that is not there is found before anything is spent; one that was lost is answered once more."""
    request, reply = shell.request("island-1"), shell.folder / "reply.json"
    nowhere = str(shell.folder / "none" / "reply.json")
    failed = shell.server("enrol", "sign", str(request), "-o", nowhere, "--approve")
    lost = shell.server("enrol", "sign", str(request), "-o", str(shell.folder / "lost.json"), "--approve")
    signed = shell.server("enrol", "sign", str(request), "-o", str(reply))
    installed = shell.agent("island-1", "enrol", "--reply", str(reply))

    assert [1, 0, 0, 0] == [each.returncode for each in (failed, lost, signed, installed)]
    assert "it was answered before" not in lost.stdout
    assert "it was answered before" in signed.stdout


def test_a_request_in_place_of_a_reply_is_told_as_one(shell: Shell) -> None:
    """With what to do with it."""
    request = shell.request("island-1")
    done = shell.agent("island-1", "enrol", "--reply", str(request))

    assert 77 == done.returncode
    assert "ct-ops-server enrol sign" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("--request", "a", "--reply", "b"), ("--request", "a", "--pin", "0" * 64)],
    ids=["neither", "both", "a pin with a request"],
)
def test_what_contradicts_itself_is_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Nothing is made."""
    done = shell.agent("island-1", "enrol", *arguments)

    assert 2 == done.returncode
    assert not (shell.folder / "island-1").exists()


def test_attack_the_name_of_a_file_on_the_stick_is_no_command_and_moves_no_cursor(shell: Shell) -> None:
    """Whoever had the stick named the files: what is printed to be typed is quoted, what cannot be shown is not read."""
    requests, replies = shell.folder / "in", shell.folder / "out"
    requests.mkdir()
    replies.mkdir()
    shell.request("island-1").rename(requests / "x;reboot #.json")
    shell.request("island-2").rename(requests / "\x1b[2J\r.json")
    shell.request("island-3").rename(os.fsdecode(os.fsencode(requests) + b"/\xff.json"))
    signed = shell.server("enrol", "sign", str(requests), "-o", str(replies), "--approve")

    assert 1 == signed.returncode
    assert "--reply 'x;reboot #.reply.json' --pin" in signed.stdout
    assert "\x1b" not in signed.stdout
    assert 2 == signed.stdout.count("rename it and sign it again")
    assert ["x;reboot #.reply.json"] == [file.name for file in replies.iterdir()]


def test_a_host_prints_a_command_that_a_shell_reads_as_one_name(shell: Shell) -> None:
    """Sticks have names with spaces."""
    asked = shell.agent("island-1", "enrol", "--request", str(shell.folder / "island 1.json"))

    assert "enrol sign 'island 1.json' -o 'island 1.reply.json'" in asked.stdout


def test_an_editor_may_have_saved_the_files_in_its_own_way(shell: Shell) -> None:
    """With a byte order mark and other ends of lines, as on Windows: nothing that is signed has changed."""
    request, reply = shell.request("island-1"), shell.folder / "reply.json"

    def edit(file: Path) -> None:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))

    edit(request)
    signed = shell.server("enrol", "sign", str(request), "-o", str(reply), "--approve")
    edit(reply)
    installed = shell.agent("island-1", "enrol", "--reply", str(reply))

    assert (0, 0) == (signed.returncode, installed.returncode), signed.stdout + installed.stderr
