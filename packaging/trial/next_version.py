"""Make a frozen archive that calls itself the next version, for a trial of upgrades. The program is the same."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """ARCHIVE OUTPUT: write OUTPUT."""
    from archives import pack  # noqa: PLC0415 - after the path is known
    from tree import unpack  # noqa: PLC0415

    archive, output = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="ct-ops-trial-") as scratch:
        frozen = unpack(archive, Path(scratch))
        said = json.loads((frozen / "BUILD.json").read_text())
        said["version"] += ".1"
        (frozen / "BUILD.json").write_text(json.dumps(said))
        made = pack(frozen, output.name, Path(scratch), "gz", said["source_date_epoch"])
        output.write_bytes(made.read_bytes())


if __name__ == "__main__":
    main()
