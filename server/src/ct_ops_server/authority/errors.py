"""What stops the authority from opening: one family, because the caller's reaction is one.

    AuthorityError            the start ends with this sentence and exit code 78
    └── WrongSecretError      a key file is sealed with another secret: give that one back

Each carries the file it is about and a sentence that says what to do. No secret is ever in it.
"""

from __future__ import annotations

from pathlib import Path


class AuthorityError(Exception):
    """A key, a certificate or its file cannot be used as it is. ``str()`` is for the operator."""

    def __init__(self, path: Path, sentence: str) -> None:
        super().__init__(f"{path}: {sentence}")
        self.path = path


class WrongSecretError(AuthorityError):
    """A sealed key that the secret at hand does not open."""

    def __init__(self, path: Path, secret_file: Path) -> None:
        super().__init__(
            path,
            f"is sealed with another secret than the one in {secret_file}. Point INGEST_SECRET_FILE at the "
            "secret it was sealed with, or restore both files from the same backup.",
        )
        self.secret_file = secret_file
