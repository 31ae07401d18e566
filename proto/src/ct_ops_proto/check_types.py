"""The types of checks: a struct for each, whose fields are its keys. See `ct_ops_proto.checks`.

A new type is a struct here and a line in `CHECK_TYPES`; the documentation and both halves read the rest from
its fields. What is wrong although every value is of its type is told by its ``problems``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from ct_ops_proto.check_keys import OURS, SECRET, ConfigProblem, masked, printable

_MAX_HEADERS = 32
_MAX_HEADER_CHARS = 4_096
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_NOT_ABSOLUTE = "must be an absolute path on the host"
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]")

_Host = Annotated[str, Meta(min_length=1, max_length=253)]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
_MinDaysLeft = Annotated[
    int,
    Meta(ge=0, le=3_650, description="fails when fewer days of validity are left", extra=OURS),
]


class CheckConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a check of some type is told."""

    default_timeout_s: ClassVar[float]
    """How long one run may take when neither the check nor its configuration says."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in masked(self).items())
        return f"{type(self).__name__}({shown})"

    @classmethod
    def problems(cls, _read: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        """Yield what is wrong with values that are of their type. Some may be missing."""
        return ()


class PortCheck(CheckConfig, frozen=True, kw_only=True):
    """A TCP connection to a port can be made."""

    default_timeout_s: ClassVar[float] = 5.0

    host: Annotated[_Host, Meta(description="name or address, IPv6 too (without brackets)")]
    port: Annotated[_Port, Meta(description="TCP port")]


class ProcessCheck(CheckConfig, frozen=True, kw_only=True):
    """A process of this name runs on the host."""

    default_timeout_s: ClassVar[float] = 10.0

    process_name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="exactly its name, or the file name of what it was started as",
        ),
    ]


class HttpCheck(CheckConfig, frozen=True, kw_only=True):
    """An HTTP request is answered as expected. Redirects are followed."""

    default_timeout_s: ClassVar[float] = 10.0

    url: Annotated[str, Meta(min_length=1, max_length=2_048, description="address, http:// or https://")]
    expected_status: Annotated[int, Meta(ge=100, le=599, description="status of the answer")] = 200
    method: Annotated[
        Literal["GET", "HEAD", "POST", "PUT", "OPTIONS"], Meta(description="of the request", extra=OURS)
    ] = "GET"
    headers: Annotated[
        dict[str, str],
        Meta(description="sent with the request; the values are shown to nobody", extra=OURS | SECRET),
    ] = {}
    body_contains: Annotated[
        str, Meta(max_length=1_024, description="text that the answer's first MiB must contain", extra=OURS)
    ] = ""
    ca_file: Annotated[
        str,
        Meta(
            max_length=4_096,
            description="file on the host with the only CA certificates to believe (PEM)",
            extra=OURS,
        ),
    ] = ""
    ca_pem: Annotated[
        str, Meta(max_length=32_768, description="those certificates themselves", extra=OURS)
    ] = ""

    @classmethod
    def problems(cls, read: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        """Yield what is wrong with the address, the headers and the CA."""
        if "url" in read:
            yield from _url_problems(read["url"])
        yield from _header_problems(read.get("headers", {}))
        ca_file, ca_pem = read.get("ca_file", ""), read.get("ca_pem", "")
        if ca_file and ca_pem:
            yield ConfigProblem("ca_pem", "cannot stand beside ca_file; remove one of them")
        if ca_file and not _ABSOLUTE.match(ca_file):
            yield ConfigProblem("ca_file", _NOT_ABSOLUTE)
        if ca_pem and "-----BEGIN CERTIFICATE-----" not in ca_pem:
            yield ConfigProblem("ca_pem", "holds no PEM certificate (-----BEGIN CERTIFICATE-----)")


class CertificateCheck(CheckConfig, frozen=True, kw_only=True):
    """The certificate that a TLS port presents is within its dates. It is reported, not verified."""

    default_timeout_s: ClassVar[float] = 10.0

    host: Annotated[_Host, Meta(description="name or address, IPv6 too (without brackets)")]
    port: Annotated[_Port, Meta(description="TCP port")] = 443
    server_name: Annotated[
        str,
        Meta(max_length=253, description="name to ask for (SNI); empty: `host`, unless that is an address"),
    ] = ""
    timeout_seconds: Annotated[
        int,
        Meta(ge=1, le=60, description="how long it may take, unless the check has a timeout of its own"),
    ] = 10
    starttls: Annotated[
        Literal["auto", "none", "smtp", "imap", "pop3", "postgres"],
        Meta(
            description="what is spoken before TLS; `auto`: by the port (25, 587: smtp, 143: imap, 110: pop3, "
            "5432: postgres)",
            extra=OURS,
        ),
    ] = "auto"
    min_days_left: _MinDaysLeft = 0


class CertFileCheck(CheckConfig, frozen=True, kw_only=True):
    """The certificate in a file on the host is within its dates."""

    default_timeout_s: ClassVar[float] = 10.0

    file_path: Annotated[str, Meta(min_length=1, max_length=4_096, description="absolute path on the host")]
    format: Annotated[
        Literal["pem", "pkcs12", "jks"], Meta(description="of the file; only existing agents read `jks`")
    ] = "pem"
    password: Annotated[
        str, Meta(max_length=1_024, description="of a key store; shown to nobody", extra=SECRET)
    ] = ""
    alias: Annotated[str, Meta(max_length=255, description="which entry of a `jks` key store")] = ""
    min_days_left: _MinDaysLeft = 0

    @classmethod
    def problems(cls, read: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        """Yield what is wrong with the path, and what has no effect for the format."""
        if "file_path" in read and not _ABSOLUTE.match(read["file_path"]):
            yield ConfigProblem("file_path", _NOT_ABSOLUTE)
        if read.get("password") and read.get("format", "pem") == "pem":
            yield ConfigProblem("password", "has no effect on a pem file; remove it, or set format=pkcs12")


AnyCheckConfig: TypeAlias = PortCheck | ProcessCheck | HttpCheck | CertificateCheck | CertFileCheck

CHECK_TYPES: Mapping[str, type[AnyCheckConfig]] = {
    "port": PortCheck,
    "process": ProcessCheck,
    "http": HttpCheck,
    "certificate": CertificateCheck,
    "cert_file": CertFileCheck,
}


def _url_problems(url: str) -> Iterable[ConfigProblem]:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        yield ConfigProblem("url", f"is no address: {error}")
        return
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        yield ConfigProblem("url", "must begin with http:// or https:// and name a host")
    if " " in url:
        yield ConfigProblem("url", "holds a space; write %20")
    if parts.username is not None or parts.password is not None:
        yield ConfigProblem("url", "must not hold a password, it would be shown; send it in headers")


def _header_problems(headers: Mapping[str, str]) -> Iterable[ConfigProblem]:
    if len(headers) > _MAX_HEADERS:
        yield ConfigProblem("headers", f"are more than {_MAX_HEADERS}")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            yield ConfigProblem(f"headers.{printable(name)}", "is no name of a header")
        elif len(value) > _MAX_HEADER_CHARS or not value.isprintable() or not value.isascii():
            yield ConfigProblem(
                f"headers.{name}", f"must be at most {_MAX_HEADER_CHARS} characters of printable ASCII"
            )
