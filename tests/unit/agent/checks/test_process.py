"""Process checks on a made-up /proc, and on ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.process import name_of, probe
from ct_ops_agent.checks.verdict import Verdict
from ct_ops_agent.work import CheckStatus
from ct_ops_proto.checks import ProcessCheck


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    add(tmp_path, "1", "systemd", b"/sbin/init\0splash\0")
    add(tmp_path, "2", "kthreadd", b"")
    add(tmp_path, "30", "python3", b"/usr/bin/python3\0-m\0http.server\0")
    add(tmp_path, "31", "kube-controller", b"/usr/local/bin/kube-controller-manager\0")
    (tmp_path / "32").mkdir()  # has ended since
    (tmp_path / "cpuinfo").write_text("")
    return tmp_path


def add(proc: Path, pid: str, comm: str, cmdline: bytes) -> None:
    (proc / pid).mkdir()
    (proc / pid / "comm").write_text(comm + "\n")
    (proc / pid / "cmdline").write_bytes(cmdline)


def look(proc: Path, name: str) -> Verdict:
    return probe(ProcessCheck(process_name=name), Attempt(10), proc)


@pytest.mark.parametrize(
    ("name", "pid"),
    [("systemd", "1"), ("init", "1"), ("kthreadd", "2"), ("kube-controller-manager", "31"), ("kube-controller", "31")],
)  # fmt: skip
def test_a_process_is_known_by_its_name_or_by_what_it_was_started_as(name: str, pid: str, proc: Path) -> None:
    """The kernel's name ends after 15 characters."""
    verdict = look(proc, name)

    assert (CheckStatus.PASS, f"{name} is running (pid {pid})") == (verdict.status, verdict.output)


@pytest.mark.parametrize("name", ["http.server", "python", "system", "SYSTEMD", "sbin/init", "cpuinfo"])
def test_a_name_that_is_similar_is_another(name: str, proc: Path) -> None:
    """Exactly means exactly."""
    assert CheckStatus.FAIL == look(proc, name).status


def test_many_of_a_name_are_counted_only_so_far(proc: Path) -> None:
    """A host may run thousands of the same."""
    for pid in range(100, 130):
        add(proc, str(pid), "worker", b"")

    output = look(proc, "worker").output
    assert output.endswith("and more)")
    assert 9 == output.count(",")


def test_a_proc_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Then nothing is known."""
    verdict = look(tmp_path / "nowhere", "sshd")

    assert CheckStatus.ERROR == verdict.status
    assert "cannot be read: No such file or directory" in verdict.output


def test_time_that_is_over_is_an_error(proc: Path) -> None:
    """Half of the processes are not all of them."""
    attempt = Attempt(10)
    attempt.give_up()

    assert CheckStatus.ERROR == probe(ProcessCheck(process_name="systemd"), attempt, proc).status


def test_this_process_runs() -> None:
    """On the real /proc."""
    name = Path("/proc/self/comm").read_text().strip()

    assert CheckStatus.PASS == look(Path("/proc"), name).status


@pytest.mark.parametrize(("cmdline", "name"), [("", ""), ("\0", ""), ("/", ""), ("a/b\0c", "b"), ("nginx: worker", "nginx: worker")])  # fmt: skip
def test_the_name_of_a_command_line(cmdline: str, name: str) -> None:
    """The file name of its first word, whatever that is."""
    assert name == name_of(cmdline)
