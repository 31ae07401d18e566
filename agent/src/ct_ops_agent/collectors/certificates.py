"""Certificates on disk: when each ends.

Reads PEM files in the places that the configuration names, private keys left alone. Off by default: only the
operator knows the places, and reading X.509 loads a library that the daemon does without otherwise.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from glob import iglob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from ct_ops_agent.collector import About, Collector, Missing, Privilege, Reading, Sample, SampleDoc, Settings

if TYPE_CHECKING:
    from cryptography import x509

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
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
            without="certificates in folders that only root may enter are not found",
        ),
    )
    settings_type = CertificatesSettings

    def __init__(self, settings: CertificatesSettings, wall: Callable[[], float] = time.time) -> None:
        """Prepare; ``wall`` is this host's clock, seconds since 1970."""
        super().__init__(settings)
        self._wall = wall

    def collect(self) -> Iterator[Reading]:
        """Read every file."""
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


def parse_first(content: bytes) -> x509.Certificate | None:
    """Return the first certificate of a PEM text, None when there is none that can be read."""
    from cryptography import x509  # noqa: PLC0415  loads 12 MiB, for who has it on

    found = _PEM.search(content)
    if found is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(found[0])
        certificate.subject.rfc4514_string()
    except ValueError:
        return None
    return certificate
