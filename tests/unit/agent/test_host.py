"""What the host is, in the words of the wire."""

import platform
import socket

import pytest

from ct_ops_agent.host import architecture, read_host_facts


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", "amd64"),
        ("AMD64", "amd64"),
        ("aarch64", "arm64"),
        ("arm64", "arm64"),
        ("riscv64", "riscv64"),
    ],
)
def test_architectures_have_the_names_of_the_wire(machine: str, expected: str) -> None:
    """amd64 and arm64, and an unknown machine under its own name."""
    assert expected == architecture(machine)


def test_this_host_is_described() -> None:
    """System, version as people say it, and a boot id."""
    facts = read_host_facts(hostname=None)

    assert (socket.gethostname(), "linux") == (facts.hostname, facts.os)
    assert platform.freedesktop_os_release()["PRETTY_NAME"] == facts.os_version
    assert facts.boot_id == read_host_facts(hostname=None).boot_id


def test_a_configured_name_is_reported_instead() -> None:
    """agent.hostname overrides what the system says."""
    assert "web-1" == read_host_facts(hostname="web-1").hostname


def test_a_minimal_image_is_named_after_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without os-release there is still something to say."""

    def missing() -> dict[str, str]:
        raise OSError

    monkeypatch.setattr(platform, "freedesktop_os_release", missing)

    assert read_host_facts(hostname=None).os_version.startswith("Linux ")
