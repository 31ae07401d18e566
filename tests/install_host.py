"""A host to run install scripts on: real shells and real tools, except for those that say what the host is.

Nothing outside of one folder is touched: the "agent" that is installed only writes down how it was called.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
VERSION = "0.1.0"
STEM = f"ct-ops-agent-linux-amd64-v{VERSION}"
SBOM = b'{"bomFormat":"CycloneDX"}\n'
BUILT_AT = 1_700_000_000

_TOOLS = [
    "tar",
    "gzip",
    "xz",
    "sha256sum",
    "mktemp",
    "openssl",
    "mkdir",
    "rm",
    "chmod",
    "dirname",
    "cp",
    "sh",
    "cat",
]
_AGENT = """\
#!{python} -I
import json, os, sys
from pathlib import Path
note = Path({log!r})
calls = json.loads(note.read_text()) if note.exists() else []
words = sys.argv[1:]
files = {{word: Path(word).read_text() for word in words if os.path.isfile(word)}}
calls.append({{"words": words, "files": files, "token": os.environ.get("CT_OPS_ENROLMENT_TOKEN"), "stdin": sys.stdin.read(),
    "me": __file__}})
note.write_text(json.dumps(calls))
sys.exit({code})
"""


def agent_archive(program: str | None = None, *, kind: str = "gz", stem: str = STEM) -> bytes:
    """Return an archive as a release has it, with a program that is a script."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        files = {"BUILD.json": b"{}", "sbom.cdx.json": SBOM}
        if program is not None:
            files["ct-ops-agent"] = program.encode()
        for name, content in files.items():
            member = tarfile.TarInfo(f"{stem}/{name}")
            member.size, member.mtime = len(content), BUILT_AT
            member.mode = 0o755 if name == "ct-ops-agent" else 0o644
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@dataclass
class InstallHost:
    """What it is can be changed before a script is run."""

    folder: Path
    uid: int = 0
    system: str = "Linux"
    machine: str = "x86_64"
    libc: str = "glibc 2.36"
    musl: bool = False
    free_kib: int = 10_000_000
    missing: set[str] = field(default_factory=set)
    """Tools that this host has not."""
    agent_exits: int = 0

    @property
    def agent(self) -> str:
        """The program that is installed."""
        return _AGENT.format(
            python=sys.executable, log=str(self.folder / "calls.json"), code=self.agent_exits
        )

    @property
    def calls(self) -> list[dict[str, object]]:
        """How the agent was called."""
        note = self.folder / "calls.json"
        return json.loads(note.read_text()) if note.exists() else []

    @property
    def left_behind(self) -> list[Path]:
        """What a script did not take away again."""
        return list((self.folder / "tmp").iterdir())

    def run(
        self,
        script: str,
        *words: str,
        shell: str = "sh",
        environment: Mapping[str, str] | None = None,
        download: Path | None = None,
        real_curl: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Pipe a script into a shell, as the one line does."""
        tools = self._tools(download, real_curl=real_curl)
        return self._run([shutil.which(shell) or shell, "-s", *words], script, environment, tools)

    def paste(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line as an operator does, with the real curl."""
        return self._run(
            [shutil.which("sh") or "sh", "-c", line], "", None, self._tools(None, real_curl=True)
        )

    def run_file(
        self, script: Path, *words: str, environment: Mapping[str, str] | None = None, shell: str = "sh"
    ) -> subprocess.CompletedProcess[str]:
        """Run a script that is a file."""
        return self._run(
            [shutil.which(shell) or shell, str(script), *words], "", environment, self._tools(None)
        )

    def _run(
        self, command: list[str], said: str, environment: Mapping[str, str] | None, tools: Path
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        path = {"PATH": str(tools), "TMPDIR": str(self.folder / "tmp")}
        return subprocess.run(
            command,
            input=said,
            env={**path, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _tools(self, download: Path | None, *, real_curl: bool = False) -> Path:
        """Make the folder that is this host's PATH."""
        tools = self.folder / "tools"
        shutil.rmtree(tools, ignore_errors=True)
        tools.mkdir()
        scripts = {
            "id": f"echo {self.uid}",
            "uname": f'case "$1" in -s) echo {self.system} ;; *) echo {self.machine} ;; esac',
            "getconf": f"echo {self.libc}" if self.libc else "exit 1",
            "ldd": "echo 'musl libc (x86_64)' >&2; exit 1" if self.musl else "exit 1",
            "df": f"echo head; echo '/dev/x 1 1 {self.free_kib} 1% /'",
        }
        for fetcher, flag in (("curl", "-o"), ("wget", "-O")):
            scripts[fetcher] = _fetcher(flag, download, self.folder / f"{fetcher}.log")
        for name, body in scripts.items():
            (tools / name).write_text(f"#!/bin/sh\n{body}\n")
            (tools / name).chmod(0o755)
        if real_curl:
            (tools / "curl").unlink()
        for name in (*_TOOLS, *(["curl"] if real_curl else [])):
            (tools / name).symlink_to(shutil.which(name) or os.devnull)
        for name in self.missing:
            (tools / name).unlink()
        return tools


def _fetcher(flag: str, download: Path | None, log: Path) -> str:
    if download is None:
        return "exit 22"
    return f"""\
printf '%s\\n' "$@" >'{log}'
while [ $# -gt 0 ]; do [ "$1" = {flag} ] && cp '{download}' "$2"; shift; done"""
