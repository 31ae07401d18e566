"""rpm's packages: its database has had three forms, so ``rpm`` itself is asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from ct_ops_agent.collector import CollectorError
from ct_ops_agent.collectors.software.model import Package, Packages

_TIMEOUT_S = 100.0
_FORMAT = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{ARCH}\t%{VENDOR}\t%{INSTALLTIME}\n"
_NO_VALUE = "(none)"
_DATABASES = ("var/lib/rpm", "usr/lib/sysimage/rpm")


def parse_rpm(text: str) -> list[Package]:
    """Return the packages of ``rpm -qa`` in our format; the keys that rpm lists as packages are left out."""
    lines = (line.rstrip("\r").split("\t") for line in text.split("\n"))
    return [
        Package(
            words[0],
            words[1],
            _value(words[2]),
            _value(words[3]),
            int(words[4]) if words[4].isdecimal() else 0,
        )
        for words in lines
        if len(words) == 5 and words[0] != "gpg-pubkey"
    ]


def read_rpm(root: Path, run: Callable[[list[str]], str] | None = None) -> Packages | None:
    """Return rpm's packages, None when it is not here."""
    if not any((root / folder).is_dir() for folder in _DATABASES):
        return None
    return Packages("rpm", parse_rpm((run or _run)(["rpm", "-qa", "--queryformat", _FORMAT])))


def _value(text: str) -> str:
    return "" if text == _NO_VALUE else text


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603  a command of our own
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            check=True,
        )
    except FileNotFoundError:
        raise CollectorError("there is a database of rpm, but no program rpm to read it") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise CollectorError(f"rpm does not answer: {error}") from error
    return done.stdout.decode(errors="replace")
