"""Any program as a collector: ``[[collectors.exec]]``.

It is run without a shell, in a session of its own, with nothing of the agent's environment but ``PATH`` and
a neutral locale, and prints JSON lines or the text format of Prometheus. When it has ended, at its deadline, when
it prints more than its limit, and when the agent ends, whatever is left of its process group is killed. What it
wrote to standard error is told to operators when it fails.

The group is killed before its leader is reaped: until then nobody else can get its number.
"""

from __future__ import annotations

import atexit
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import IO, Annotated, Literal

from msgspec import Meta, field

from ct_ops_agent.collector import About, Collector, CollectorError, Reading, SampleDoc, Settings
from ct_ops_agent.foreign.json_lines import read_json_lines
from ct_ops_agent.foreign.prometheus_text import read_prometheus_text

_CHUNK_BYTES = 65_536
_TOLD_BYTES = 2_000
_LOOK_EVERY_S = 0.01
_running: set[subprocess.Popen[bytes]] = set()
"""Not reaped yet."""

_starting = threading.Lock()
"""Held from the start of a program until it is in `_running`."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ExecSettings(Settings, frozen=True):
    """Keys of one ``[[collectors.exec]]``."""

    command: Annotated[
        list[str], Meta(description="The program, by its absolute path, and its arguments.")
    ] = field(default_factory=list)
    format: Annotated[
        Literal["json", "prometheus"], Meta(description="What it prints: JSON lines or Prometheus text.")
    ] = "json"
    output_limit: Annotated[
        int, Meta(ge=1, le=16_777_216, description="Bytes it may print; more is a failure.")
    ] = 1_048_576
    environment: Annotated[
        dict[str, str], Meta(description="What it finds in its environment, beside PATH and LC_ALL.")
    ] = field(default_factory=dict)


class ExecProgram(Collector[ExecSettings]):
    """One program, named in the configuration."""

    about = About(
        name="exec",
        summary="Whatever a program of yours prints.",
        reads="a program, run without a shell and with a clean environment",
        cost="a process a run",
        interval=timedelta(seconds=60),
        samples=(SampleDoc("NAME.…", "", "below the name that the configuration gives the program"),),
        on_by_default=False,
        timeout=timedelta(seconds=10),
    )
    settings_type = ExecSettings

    def __init__(self, settings: ExecSettings, *, name: str = "exec", timeout_s: float = 10.0) -> None:
        """Prepare.

        Args:
            settings: what to run.
            name: what its samples begin with.
            timeout_s: when it is killed.
        """
        super().__init__(settings)
        self._name = name
        self._timeout_s = timeout_s

    def collect(self) -> Iterator[Reading]:
        """Run the program and read what it printed."""
        output = run_program(
            self.settings.command,
            environment=self.settings.environment,
            timeout_s=self._timeout_s,
            output_limit=self.settings.output_limit,
        )
        read = read_json_lines if self.settings.format == "json" else read_prometheus_text
        return read(self._name, output)


def run_program(
    command: list[str], *, environment: dict[str, str], timeout_s: float, output_limit: int
) -> str:
    """Return what a program printed.

    Raises:
        CollectorError: it cannot be started, fails, takes too long or prints too much.
    """
    process = _start(command, environment)
    try:
        output, complaint = _read_both(process, timeout_s, output_limit)
    finally:
        _end(process)
        _running.discard(process)
    if process.returncode != 0:
        raise CollectorError(f"{command[0]} ended with {_ending(process.returncode)}{_said(complaint)}")
    return output.decode(errors="replace")


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program so that an agent that ends meanwhile knows of it.

    Raises:
        CollectorError: it cannot be started.
    """
    try:
        with _starting:
            process = subprocess.Popen(  # noqa: S603  the operator names it; no shell, no input
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": _PATH, "LC_ALL": "C.UTF-8", **environment},
                cwd="/",
                start_new_session=True,
            )
            _running.add(process)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CollectorError(f"{command[0]} cannot be started: {why}") from error
    return process


def _read_both(process: subprocess.Popen[bytes], timeout_s: float, limit: int) -> tuple[bytes, bytes]:
    """Read until both outputs end; of standard error only the end is kept."""
    assert process.stdout is not None
    assert process.stderr is not None
    output, complaint = bytearray(), bytearray()
    deadline_s = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, complaint)
        while selector.get_map():
            for key, _ in selector.select(max(deadline_s - time.monotonic(), 0)):
                stream: IO[bytes] = key.fileobj  # type: ignore[assignment]  # the pipes registered above
                chunk = os.read(stream.fileno(), _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(stream)
                key.data.extend(chunk)
            del complaint[:-_TOLD_BYTES]
            if len(output) > limit:
                raise CollectorError(f"it printed more than {limit} bytes and was killed")
            if selector.get_map() and time.monotonic() >= deadline_s:
                raise CollectorError(
                    f"it did not end within {timeout_s:g} s and was killed{_said(complaint)}"
                )
    while not _has_ended(process):
        if time.monotonic() >= deadline_s:
            raise CollectorError(f"it closed its output, but did not end within {timeout_s:g} s")
        time.sleep(_LOOK_EVERY_S)
    return bytes(output), bytes(complaint)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Look without reaping: the number of the group must stay taken until the group is gone."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the program and its children, reap it, and free its pipes."""
    _kill_group(process)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@atexit.register
def _kill_what_runs() -> None:
    """An agent that ends leaves no program behind, also without a service manager that would see to it."""
    with _starting:
        for process in tuple(_running):
            _kill_group(process)


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _said(complaint: bytes | bytearray) -> str:
    text = bytes(complaint).decode(errors="replace").strip()
    return f"; it said: {text.splitlines()[-1]}" if text else ""
