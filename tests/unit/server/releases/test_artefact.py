"""Names of artefacts, and which of them is the newest."""

from __future__ import annotations

import pytest

from ct_ops_server.releases.artefact import Artefact, ArtefactNameError, Form, newest, parse_file_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ct-ops-agent-linux-amd64", ("linux", "amd64", Form.PROGRAM, None)),
        ("ct-ops-agent-darwin-arm64", ("darwin", "arm64", Form.PROGRAM, None)),
        ("ct-ops-agent-windows-amd64.exe", ("windows", "amd64", Form.PROGRAM, None)),
        ("ct-ops-agent-linux-amd64-v0.30.2", ("linux", "amd64", Form.PROGRAM, "0.30.2")),
        ("ct-ops-agent-windows-amd64-v0.30.2.exe", ("windows", "amd64", Form.PROGRAM, "0.30.2")),
        ("ct-ops-agent-linux-amd64-v0.1.0.tar.xz", ("linux", "amd64", Form.TAR_XZ, "0.1.0")),
        ("ct-ops-agent-linux-arm64-v1.0.0-rc.1.tar.gz", ("linux", "arm64", Form.TAR_GZ, "1.0.0-rc.1")),
    ],
)
def test_names_of_existing_installations_and_ours_are_known(
    name: str, expected: tuple[str, str, Form, str | None]
) -> None:
    """What a server finds in its folder."""
    assert Artefact(name, *expected) == parse_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "README.md",
        "ct-ops-agent",
        "ct-ops-agent-linux",
        "ct-ops-agent-plan9-amd64",
        "ct-ops-agent-linux-amd64.exe",
        "ct-ops-agent-windows-amd64",
        "ct-ops-agent-linux-amd64-v",
        "ct-ops-agent-linux-amd64-vlatest",
        "ct-ops-agent-linux-amd64-v1..2",
        "ct-ops-agent-linux-amd64-v1.0.tar.bz2",
        "../ct-ops-agent-linux-amd64",
        "ct-ops-agent-linux-amd64-v1.0/../../x",
        "ct-ops-agent-linux-amd64\n",
    ],
)
def test_any_other_name_is_no_artefact(name: str) -> None:
    """Nothing but an artefact is ever handed out of the folder."""
    with pytest.raises(ArtefactNameError):
        parse_file_name(name)


def best(*names: str) -> str | None:
    found = newest(map(parse_file_name, names), system="linux", architecture="amd64", form=Form.PROGRAM)
    return found.file_name if found else None


def test_versions_are_compared_by_what_they_mean() -> None:
    """As text 0.9 would be above 0.10."""
    names = [f"ct-ops-agent-linux-amd64-v{version}" for version in ("0.9.1", "0.10.0", "0.2.20")]

    assert "ct-ops-agent-linux-amd64-v0.10.0" == best(*names)


def test_a_release_candidate_is_for_those_who_have_nothing_else() -> None:
    """A final version wins, also an older one."""
    candidate, final = "ct-ops-agent-linux-amd64-v2.0.0-rc.1", "ct-ops-agent-linux-amd64-v1.9.0"

    assert (final, candidate) == (best(candidate, final), best(candidate))


def test_a_program_without_a_version_is_the_last_resort() -> None:
    """What existing installations have in their image."""
    plain, versioned = "ct-ops-agent-linux-amd64", "ct-ops-agent-linux-amd64-v0.1.0"

    assert (versioned, plain) == (best(plain, versioned), best(plain))


def test_another_platform_or_form_is_no_answer() -> None:
    """A Mac's program would end a Linux agent."""
    assert best("ct-ops-agent-darwin-amd64", "ct-ops-agent-linux-amd64-v1.0.0.tar.gz") is None
