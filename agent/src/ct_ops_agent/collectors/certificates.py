"""Certificates on disk: when each ends.

Reads PEM files in the places that the configuration names, private keys left alone. Off by default: only the
operator knows the places, and reading X.509 loads a library that the daemon does without otherwise. Looking for files passes over
folders that may not be entered, so each place is tried first, and one that is closed is said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from glob import iglob
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from ct_ops_agent.collector import About, Collector, Missing, Privilege, Reading, Sample, SampleDoc, Settings

if TYPE_CHECKING:
    from cryptography import x509

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_WILD = frozenset("*?[")
_LARGEST_BYTES = 262_144
_MOST_FILES = 200
_DAY_S = 86_400.0


class CertificatesSettings(Settings, frozen=True):
    """Keys of ``[collectors.certificates]``."""

    paths: Annotated[
        list[str],
        Meta(
            description="Files in PEM, with * and ?, and ** for any depth. Of each the first certificate counts."
        ),
    ] = field(
        default_factory=lambda: [
            "/etc/letsencrypt/live/*/cert.pem",
            "/etc/pki/tls/certs/*.crt",
            "/etc/ct-ops/**/*.crt",
        ]
    )


class Certificates(Collector[CertificatesSettings]):
    """Collector ``certificates``."""

    about = About(
        name="certificates",
        summary="When the certificates in PEM files end.",
        reads="the files that `paths` names, at most 200 of 256 KiB",
        cost="1 ms for each file, and 12 MiB of memory for the library that reads them",
        interval=timedelta(hours=1),
        samples=(
            SampleDoc("certificates.files", "", "how many were read"),
            SampleDoc(
                "certificates.not_after_seconds",
                "s",
                "end of validity, seconds since 1970",
                labels=("path", "subject"),
            ),
            SampleDoc(
                "certificates.days_left",
                "d",
                "until then; negative: it has ended",
                labels=("path", "subject"),
            ),
        ),
        on_by_default=False,
        privilege=Privilege(
            capabilities=("CAP_DAC_READ_SEARCH",),
            readable=("/etc/letsencrypt",),
            without="folders that only root may enter are said to be closed, and their certificates are not told",
        ),
    )
    settings_type = CertificatesSettings

    def __init__(self, settings: CertificatesSettings, wall: Callable[[], float] = time.time) -> None:
        """Prepare; ``wall`` is this host's clock, seconds since 1970."""
        super().__init__(settings)
        self._wall = wall

    def collect(self) -> Iterator[Reading]:
        """Read every file."""
        for place in dict.fromkeys(map(fixed_part, self.settings.paths)):
            yield from _closed(place)
        files = sorted({path for pattern in self.settings.paths for path in iglob(pattern, recursive=True)})  # noqa: PTH207  patterns are absolute
        if len(files) > _MOST_FILES:
            yield Missing("certificates", f"{len(files)} files match, {_MOST_FILES} are read; name fewer")
        told = 0
        for path in files[:_MOST_FILES]:
            for reading in self._read(Path(path)):
                told += isinstance(reading, Sample)
                yield reading
        yield Sample("certificates.files", told // 2)

    def _read(self, path: Path) -> Iterator[Reading]:
        try:
            if not path.is_file():
                return
            with path.open("rb") as file:
                content = file.read(_LARGEST_BYTES)
        except OSError as error:
            yield Missing(str(path), f"cannot be read: {error.strerror}")
            return
        certificate = parse_first(content)
        if certificate is None:
            yield Missing(str(path), "holds no certificate in PEM")
            return
        yield from self._samples(path, certificate)

    def _samples(self, path: Path, certificate: x509.Certificate) -> Iterator[Reading]:
        ends = certificate.not_valid_after_utc.timestamp()
        labels = {"path": str(path), "subject": certificate.subject.rfc4514_string()[:200]}
        yield Sample("certificates.not_after_seconds", ends, "s", labels)
        yield Sample("certificates.days_left", (ends - self._wall()) / _DAY_S, "d", labels)


def fixed_part(pattern: str) -> str:
    """Return the place that a pattern is in: its folders before the first wildcard, all of it without one."""
    parts = Path(pattern).parts
    return str(Path(*takewhile(_WILD.isdisjoint, parts)))


def first_pem(content: bytes) -> bytes | None:
    """Return the first certificate's lines; looks at every byte at most twice, whatever the content."""
    begin = content.find(_BEGIN)
    end = content.find(_END, begin + len(_BEGIN)) if begin >= 0 else -1
    return content[begin : end + len(_END)] if end >= 0 else None


def parse_first(content: bytes) -> x509.Certificate | None:
    """Return the first certificate of a PEM text, None when there is none that can be read."""
    from cryptography import x509  # noqa: PLC0415  loads 12 MiB, for who has it on

    pem = first_pem(content)
    if pem is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.subject.rfc4514_string()
    except ValueError:
        return None
    return certificate


def _closed(place: str) -> Iterator[Reading]:
    try:
        if Path(place).is_dir():
            os.scandir(place).close()
    except PermissionError:
        yield Missing(place, "may not be looked into; the agent lacks CAP_DAC_READ_SEARCH")
    except OSError:
        return  # what is not there, or is no folder, holds none
