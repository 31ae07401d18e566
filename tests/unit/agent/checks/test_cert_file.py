"""Certificates in files: PEM, DER, PKCS#12, and everything that is none."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from check_peers import Signed, sign
from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.cert_file import MAX_FILE_BYTES, probe
from ct_ops_agent.checks.verdict import Verdict
from ct_ops_agent.work import CheckDefinition, CheckStatus
from ct_ops_proto.checks import CertFileCheck

PASSWORD = "hunter2-ü"
ROOT = sign("root", is_ca=True)
SIGNED = sign("web-1", by=ROOT)


def look(path: Path, **config: Any) -> Verdict:
    return probe(CertFileCheck(file_path=str(path), **config), Attempt(10))


def pkcs12(signed: Signed, encryption: KeySerializationEncryption, *, key: Any = None) -> bytes:
    return serialize_key_and_certificates(
        b"web", key or signed.key, signed.certificate, signed.above, encryption
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cert"


@pytest.mark.parametrize(
    "content",
    [
        SIGNED.pem.encode(),
        (SIGNED.key_pem + SIGNED.pem).encode(),
        b"# a comment\r\n" + SIGNED.pem.replace("\n", "\r\n").encode(),
        SIGNED.certificate.public_bytes(Encoding.DER),
    ],
    ids=["pem", "key and pem", "crlf", "der"],
)
def test_a_certificate_in_a_file_is_reported(content: bytes, file: Path) -> None:
    """The first one is judged; a private key in the same file is nobody's business."""
    file.write_bytes(content)
    verdict = look(file)
    report = json.loads(verdict.output)

    assert (CheckStatus.PASS, "web-1", str(file)) == (
        verdict.status,
        report["common_name"],
        report["file_path"],
    )
    assert "PRIVATE" not in verdict.output


def test_an_expired_one_fails(file: Path) -> None:
    """With its report."""
    file.write_text(sign(begins=timedelta(days=-9), ends=timedelta(days=-1)).pem)
    verdict = look(file)

    assert CheckStatus.FAIL == verdict.status
    assert json.loads(verdict.output)["problem"].startswith("expired on")


@pytest.mark.parametrize(
    ("encryption", "password"), [(BestAvailableEncryption(PASSWORD.encode()), PASSWORD), (NoEncryption(), "")]
)
@pytest.mark.parametrize("key", [None, rsa.generate_private_key(65537, 2048)])
def test_a_key_store_is_opened(
    encryption: KeySerializationEncryption, password: str, key: Any, file: Path
) -> None:
    """With its password, or without one; keys of any kind."""
    signed = sign("store-1", by=ROOT, key=key)
    file.write_bytes(pkcs12(signed, encryption))
    verdict = look(file, format="pkcs12", password=password)
    report = json.loads(verdict.output)

    assert (CheckStatus.PASS, "store-1") == (verdict.status, report["common_name"])
    assert ["root"] == [each["common_name"] for each in report["chain"]]
    assert not password or password not in verdict.output


def test_a_store_of_certificates_alone_is_read(file: Path) -> None:
    """Trust stores have no key."""
    file.write_bytes(serialize_key_and_certificates(None, None, None, [ROOT.certificate], NoEncryption()))

    assert CheckStatus.PASS == look(file, format="pkcs12").status


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_an_error_that_does_not_repeat_it(password: str, file: Path) -> None:
    """Nor what it should have been."""
    file.write_bytes(pkcs12(SIGNED, BestAvailableEncryption(PASSWORD.encode())))
    verdict = look(file, format="pkcs12", password=password)

    assert (CheckStatus.ERROR, f"{file} is no PKCS#12 file, or the password is wrong") == (
        verdict.status,
        verdict.output,
    )


def test_a_password_is_in_no_repr() -> None:
    """Of the configuration, or of the definition that it came in."""
    config = CertFileCheck(file_path="/x", format="pkcs12", password=PASSWORD)
    definition = CheckDefinition(
        "c1", "cert_file", json.dumps({"password": PASSWORD}, ensure_ascii=False), 60.0
    )

    assert PASSWORD not in repr(config) + repr(definition)


@pytest.mark.parametrize("config", [{"format": "pem"}, {"format": "pkcs12", "password": "x"}])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        bytes(range(256)),
        b"-----BEGIN PRIVATE KEY-----",
    ],
)
def test_what_is_no_certificate_is_an_error(content: bytes, config: dict[str, str], file: Path) -> None:
    """In one sentence that names the file."""
    file.write_bytes(content)
    verdict = look(file, **config)

    assert CheckStatus.ERROR == verdict.status
    assert verdict.output.startswith(str(file))


def test_a_key_store_of_java_is_not_read(file: Path) -> None:
    """And what to do about it is said."""
    verdict = look(file, format="jks")

    assert CheckStatus.ERROR == verdict.status
    assert "keytool -importkeystore" in verdict.output


def test_files_that_are_none_are_errors(tmp_path: Path) -> None:
    """Missing, a folder, a pipe that nobody writes to, a device, endless, too large."""
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    said = {
        path: look(path)
        for path in (tmp_path / "missing", tmp_path, pipe, large, Path("/dev/zero"), Path("/dev/tty"))
    }

    assert {CheckStatus.ERROR} == {verdict.status for verdict in said.values()}
    assert "No such file or directory" in said[tmp_path / "missing"].output
    assert "is no regular file" in said[pipe].output
    assert "is larger than" in said[large].output
