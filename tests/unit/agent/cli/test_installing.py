"""``install``, ``uninstall`` and ``unit`` as an operator types them, into the root of an image."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner, Result

from ct_ops_agent.cli import main
from ct_ops_agent.cli.tokens import take_token
from ct_ops_agent.service import layout
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.unit import unit_text
from fakes.recording_host import make_build

TOKEN = "tok_" + "b" * 32


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root of an image that knows the agent's user."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    user, group = os.geteuid(), os.getegid()
    (root / "etc" / "passwd").write_text(f"root:x:0:0::/:\nct-ops:x:{user}:{group}::/:\n")
    (root / "etc" / "group").write_text(f"root:x:0:\nct-ops:x:{group}:\n")
    return root


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    return make_build(tmp_path / "unpacked", "1.2.3")


def call(*words: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], env=environment)


def files_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def test_an_image_gets_the_agent_and_starts_it_by_itself(image: Path, unpacked: Path) -> None:
    """No systemctl: the link is what `systemctl enable` would make."""
    result = call("install", "--from", unpacked, "--root", image, CT_OPS_ENROLMENT_TOKEN=TOKEN)

    assert 0 == result.exit_code, result.output
    assert "systemctl" not in result.output
    assert {
        "usr/lib/ct-ops/agent/1.2.3/ct-ops-agent", "usr/local/bin/ct-ops-agent", "etc/ct-ops/agent.toml",
        "etc/credstore/enrolment_token", "etc/systemd/system/ct-ops-agent.service",
        "etc/systemd/system/multi-user.target.wants/ct-ops-agent.service",
    } < files_in(image)  # fmt: skip


def test_the_token_is_shown_nowhere(image: Path, unpacked: Path) -> None:
    """Not in the plan, not in what is said, in no file but the one that is for it."""
    words = ("install", "--from", unpacked, "--root", image)
    said = [call(*words, *more, CT_OPS_ENROLMENT_TOKEN=TOKEN) for more in (("--dry-run",), ())]
    holding = [
        path
        for path in image.rglob("*")
        if path.is_file() and not path.is_symlink() and TOKEN in path.read_text()
    ]

    assert TOKEN not in "".join(result.output + result.stderr for result in said)
    assert [Machine(image).at(layout.CREDENTIAL)] == holding


def test_a_dry_run_prints_the_plan_and_does_nothing(image: Path, unpacked: Path) -> None:
    """What is done afterwards is what was printed, line by line."""
    words = ("install", "--from", unpacked, "--root", image, "--tag", "a:b", "--address", "s:1")
    before = files_in(image)
    planned = call(*words, "--dry-run").output
    assert before == files_in(image)
    done = call(*words).output

    assert planned == done.removesuffix(f"installed into {image}; the agent starts with the image\n")
    assert '"a:b"' in Machine(image).at(layout.CONFIGURATION).read_text()


def test_a_bundles_configuration_is_used_and_the_operators_words_go_first(
    image: Path, unpacked: Path, tmp_path: Path
) -> None:
    """`--config agent.toml "$@"`, as its script says it."""
    (tmp_path / "agent.toml").write_text('[ingest]\naddress = "offered:1"\n[agent]\ntags = ["env:prod"]\n')
    result = call(
        "install", "--from", unpacked, "--root", image, "--config", tmp_path / "agent.toml", "--address", "said:2"
    )  # fmt: skip

    assert 0 == result.exit_code, result.output
    assert {"ingest": {"address": "said:2"}, "agent": {"tags": ["env:prod"]}} == tomli.loads(
        Machine(image).at(layout.CONFIGURATION).read_text()
    )


def test_a_configuration_that_cannot_work_ends_with_78(image: Path, unpacked: Path) -> None:
    """Every problem, and nothing changed."""
    before = files_in(image)
    result = call("install", "--from", unpacked, "--root", image, "--address", "https://x", "--tag", "no-tag")

    assert 78 == result.exit_code
    assert "no-tag" in result.stderr
    assert before == files_in(image)


def test_a_folder_that_is_no_agent_is_refused(image: Path, tmp_path: Path) -> None:
    """With what would be one."""
    (tmp_path / "empty").mkdir()
    result = call("install", "--from", tmp_path / "empty", "--root", image)

    assert 1 == result.exit_code
    assert "is no unpacked agent" in result.stderr


def test_an_image_that_is_too_old_is_refused(image: Path, unpacked: Path) -> None:
    """The builder's own C library does not matter."""
    (image / "lib").mkdir()
    (image / "lib" / "libc.so.6").write_bytes(b"GNU C Library (x) stable release version 2.17, by")
    result = call("install", "--from", unpacked, "--root", image)

    assert 1 == result.exit_code
    assert "glibc 2.17, and this build of the agent needs 2.31 or later" in result.stderr


def test_what_was_installed_into_an_image_can_be_taken_off_it(image: Path, unpacked: Path) -> None:
    """It is as it was."""
    before = files_in(image)
    call("install", "--from", unpacked, "--root", image, CT_OPS_ENROLMENT_TOKEN=TOKEN)
    result = call("uninstall", "--root", image)

    assert 0 == result.exit_code, result.output
    assert before == files_in(image)


def test_the_unit_is_printed(tmp_path: Path) -> None:
    """For whoever installs by other means."""
    assert unit_text() == call("unit").output


def test_the_drop_in_of_named_collectors_is_printed() -> None:
    """Separated by spaces or commas; what is no collector is wrong usage."""
    spaces = call("unit", "--for-collectors", "cpu", "listening_ports").output
    commas = call("unit", "--for-collectors", "cpu,listening_ports").output

    assert "AmbientCapabilities=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE" in spaces
    assert spaces == commas
    assert "need nothing" in call("unit", "--for-collectors", "cpu").output
    assert (2, 2) == (call("unit", "--for-collectors", "nonsense").exit_code, call("unit", "cpu").exit_code)


def test_the_drop_in_is_for_what_runs_here_when_nothing_is_named(tmp_path: Path) -> None:
    """As configured."""
    (tmp_path / "agent.toml").write_text("[collectors.listening_ports]\nenabled = false\n")
    result = call("unit", "--for-collectors", "-config", tmp_path / "agent.toml")

    assert "need nothing" in result.output


def test_the_token_leaves_the_environment_at_once() -> None:
    """Programs that an installation runs would inherit it; both names of it."""
    environment = {"CT_OPS_ENROLMENT_TOKEN": f" {TOKEN}\n", "CT_OPS_ORG_TOKEN": "old", "PATH": "/bin"}
    token = take_token(None, None, environment, io.StringIO())

    assert TOKEN == token.reveal()
    assert {"PATH": "/bin"} == environment
