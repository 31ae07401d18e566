"""PEM that an operator gives as a file's path, or as the text itself, where only an environment can be set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ct_ops_server.config.values import parse_path

_BEGIN = "-----BEGIN "
_INLINE = "(PEM text)"


@dataclass(frozen=True, slots=True)
class PemSource:
    """Where PEM comes from: a file, or what was said."""

    path: Path | None = None
    text: str = field(default="", repr=False)

    def read(self) -> bytes:
        """Return the PEM, reading the file each time.

        Raises:
            OSError: the file cannot be read.
        """
        return self.text.encode() if self.path is None else self.path.read_bytes()

    def __str__(self) -> str:
        return _INLINE if self.path is None else str(self.path)


def parse_pem_source(text: str) -> PemSource:
    """Return a path, or the PEM that ``text`` is; a line may end with a backslash and an n. Raises ``ValueError``."""
    if text.lstrip().startswith(_BEGIN):
        return PemSource(text=text.strip().replace("\\n", "\n") + "\n")
    return PemSource(parse_path(text))


def mask_pem_source(text: str) -> str:
    """Return the path; of PEM only that there is some."""
    return _INLINE if _BEGIN in text else text
