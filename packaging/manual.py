"""The manual page of a program: what its ``--help`` says, and where its files are."""

from __future__ import annotations

from datetime import UTC, datetime

from programs import Program


def manual_page(program: Program, epoch: int, help_text: str) -> str:
    """Return the page as roff."""
    day = datetime.fromtimestamp(epoch, tz=UTC).date().isoformat()
    return "\n".join(
        [
            f'.TH {program.name.upper()} 1 "{day}" "CT-Ops" "CT-Ops"',
            ".SH NAME",
            f"{_roff(program.name)} \\- {_roff(program.summary)}",
            ".SH SYNOPSIS",
            f".B {_roff(program.name)}",
            "[OPTIONS] COMMAND [ARGS]...",
            ".SH DESCRIPTION",
            *(_roff(line) for line in program.description.splitlines()),
            ".PP",
            "Every command explains itself with",
            ".BR \\-\\-help .",
            ".SH COMMANDS AND OPTIONS",
            ".nf",
            *(_roff(line) for line in help_text.rstrip().splitlines()),
            ".fi",
            ".SH FILES",
            ".TP",
            f".I /etc/ct\\-ops/{_roff(program.configuration)}",
            "The configuration; every key is explained in it.",
            ".TP",
            f".I /var/lib/ct\\-ops/{program.role}",
            f"What it keeps; only the user {_roff(program.user)} may read it.",
            ".TP",
            f".I /usr/lib/ct\\-ops/{program.role}",
            "The program with everything it uses, a folder for each version.",
            "",
        ]
    )


def _roff(line: str) -> str:
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line
