"""What an agent says about the machine it runs on, so that a twin is noticed.

systemd asks that ``/etc/machine-id`` itself never leaves the host (machine-id(5)): what is sent is a
digest that only CT-Ops makes, so it cannot be matched with what other software sends.
"""

import hashlib
import re

_CONTEXT = b"ct-ops-machine-1"
_RAW = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def machine_digest(raw: str) -> str:
    """Return the digest of a machine id as ``/etc/machine-id`` holds it, empty when it is none.

    Args:
        raw: the file's text: 32 lower-case hex digits, or something like ``uninitialized``.
    """
    text = raw.strip().lower()
    if not _RAW.fullmatch(text) or not text.strip("0"):
        return ""
    return hashlib.sha256(_CONTEXT + text.encode()).hexdigest()


def is_machine_digest(text: str) -> bool:
    """Return whether this could have come from :func:`machine_digest`."""
    return bool(_DIGEST.fullmatch(text))
