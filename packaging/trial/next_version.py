"""Make a frozen archive that calls itself the next version, for a trial of upgrades. The program is the same.

With ``--revision`` its database has one revision more, as a version has that changes the schema: migrations are files
in a frozen server too, and the highest number is the revision that the program wants.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

REVISION = "9000"
_VERSIONS = "_internal/ct_ops_server/store/migrations/versions"
_SCRIPT = '''"""A revision for a trial of upgrades: a new table, and a column more in an old one."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.create_table("trial", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("tokens", sa.Column("trial", sa.Text))
'''


def main() -> None:
    """ARCHIVE OUTPUT: write OUTPUT."""
    from archives import pack  # noqa: PLC0415 - after the path is known
    from tree import unpack  # noqa: PLC0415

    parser = argparse.ArgumentParser(description="Make the next version of a frozen program.")
    parser.add_argument("archive", type=Path, help="the frozen program")
    parser.add_argument("output", type=Path, help="the .tar.gz to write")
    parser.add_argument("--revision", action="store_true", help="with a revision more")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ct-ops-trial-") as scratch:
        frozen = unpack(arguments.archive, Path(scratch))
        said = json.loads((frozen / "BUILD.json").read_text())
        said["version"] += ".1"
        (frozen / "BUILD.json").write_text(json.dumps(said))
        if arguments.revision:
            add_revision(frozen / _VERSIONS)
        made = pack(frozen, arguments.output.name, Path(scratch), "gz", said["source_date_epoch"])
        arguments.output.write_bytes(made.read_bytes())


def add_revision(versions: Path) -> None:
    """Add a script behind the newest one."""
    before = max(file.name[1:5] for file in versions.glob("r[0-9]*.py"))
    (versions / f"r{REVISION}_trial.py").write_text(_SCRIPT.format(revision=REVISION, before=before))


if __name__ == "__main__":
    main()
