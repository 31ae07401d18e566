"""Any program as a collector: clean environment, deadline, limits, and a sentence when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError, Sample
from ct_ops_agent.foreign.exec_program import ExecProgram, ExecSettings, run_program


def python(program: str) -> list[str]:
    return [sys.executable, "-I", "-c", program]


def run(command: list[str], *, timeout_s: float = 10.0, limit: int = 100_000, **environment: str) -> str:
    return run_program(command, environment=environment, timeout_s=timeout_s, output_limit=limit)


def test_what_it_prints_becomes_samples_below_its_name() -> None:
    """JSON lines by default, Prometheus text where the configuration says so."""
    json_settings = ExecSettings(
        command=python("""print('{"name": "age_seconds", "value": 3, "unit": "s"}')""")
    )
    text_settings = ExecSettings(command=python("print('backup_age_seconds 3')"), format="prometheus")

    assert [Sample("backup.age_seconds", 3.0, "s")] == list(
        ExecProgram(json_settings, name="backup").collect()
    )
    assert [Sample("backup.age_seconds", 3.0)] == list(ExecProgram(text_settings, name="backup").collect())


def test_it_inherits_nothing_of_the_agents_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, no address, no language: what it finds is what the configuration names."""
    monkeypatch.setenv("CT_OPS_ENROLMENT_TOKEN", "tok_secret")
    found = run(python("import os; print(sorted(os.environ.items()))"), ONE="1")

    assert "tok_secret" not in found
    assert {"LC_ALL", "ONE", "PATH"} == {name for name, _ in eval(found)}


def test_a_failure_says_the_code_and_what_it_said_last() -> None:
    """The last line of standard error is where programs say why."""
    program = (
        "import sys; print('first', file=sys.stderr); print('no such disk', file=sys.stderr); sys.exit(3)"
    )
    with pytest.raises(CollectorError, match="ended with exit code 3; it said: no such disk"):
        run(python(program))


def test_a_program_that_is_not_there_is_said() -> None:
    """Not a traceback."""
    with pytest.raises(CollectorError, match="/nonexistent/program cannot be started: No such file"):
        run(["/nonexistent/program"])


def test_at_its_deadline_the_whole_group_is_killed(tmp_path: Path) -> None:
    """Also the child that it has started and that holds its output open."""
    mark = tmp_path / "pid"
    program = (
        "import subprocess, sys, time; "
        f"child = subprocess.Popen(['sleep', '60']); open({str(mark)!r}, 'w').write(str(child.pid)); time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(CollectorError, match=r"did not end within 0\.5 s and was killed"):
        run(python(program), timeout_s=0.5)

    assert 30 > time.monotonic() - started
    assert_ends(int(mark.read_text()))


def assert_ends(pid: int) -> None:
    """Wait until a process is gone, or only waits for whoever inherited it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return
    raise AssertionError(f"process {pid} lives")


def test_a_child_in_the_background_ends_with_its_program(tmp_path: Path) -> None:
    """Also when the program itself went well: three runs would leave three."""
    mark = tmp_path / "pid"
    script = f"sleep 60 >/dev/null 2>&1 & echo $! > {mark}; echo fine"

    assert "fine\n" == run(["/bin/sh", "-c", script])
    assert_ends(int(mark.read_text()))


def test_a_child_that_holds_the_output_open_ends_at_the_deadline(tmp_path: Path) -> None:
    """Although the program itself has long ended."""
    mark = tmp_path / "pid"
    with pytest.raises(CollectorError, match="was killed"):
        run(["/bin/sh", "-c", f"sleep 60 & echo $! > {mark}"], timeout_s=0.5)

    assert_ends(int(mark.read_text()))


def test_an_agent_that_ends_leaves_no_program_behind(tmp_path: Path) -> None:
    """Also without a service manager that would see to it."""
    mark = tmp_path / "pid"
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from ct_ops_agent.foreign.exec_program import run_program\n"
        f"command = ['/bin/sh', '-c', 'echo $$ > {mark}; exec sleep 60']\n"
        "run = lambda: run_program(command, environment={}, timeout_s=50, output_limit=100)\n"
        "threading.Thread(target=run, daemon=True).start()\n"
        f"while not (Path({str(mark)!r}).exists() and Path({str(mark)!r}).read_text()): pass\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    assert_ends(int(mark.read_text()))


def test_a_flood_of_output_is_cut_off_and_killed() -> None:
    """`yes` would fill the memory."""
    with pytest.raises(CollectorError, match="more than 1000 bytes and was killed"):
        run(python("while True: print('y' * 100)"), limit=1000)


def test_a_flood_of_complaints_is_read_and_forgotten() -> None:
    """A full pipe would stop the program."""
    program = "import sys\nfor _ in range(20000): print('x' * 50, file=sys.stderr)\nprint('done')"

    assert "done\n" == run(python(program))


def test_output_that_is_no_text_is_read_as_far_as_it_is() -> None:
    """Nothing is raised."""
    assert "\ufffd\n" == run(python("import sys; sys.stdout.buffer.write(b'\\xff\\n')"))
