"""Installing, again, upwards, downwards, over an existing agent, and cut short at every step.

Files are real, in a folder that stands for the host; programs are recorded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tomli

from ct_ops_agent.config.load import Flags, load_config
from ct_ops_agent.errors import ConfigError, InstallationError
from ct_ops_agent.secret import Secret
from ct_ops_agent.service import layout
from ct_ops_agent.service.build import Library
from ct_ops_agent.service.doing import do_all, only_one
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.merging import Demands
from ct_ops_agent.service.plan import complaints
from ct_ops_agent.service.unit import unit_text
from fakes.recording_host import AGENT, RecordingHost, make_build
from unit.agent.service.installing import TOKEN, existing_agent, install, looked_at, planned


@pytest.fixture
def host(tmp_path: Path) -> RecordingHost:
    (tmp_path / "host").mkdir()
    return RecordingHost(tmp_path / "host")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Make unpacked agents."""

    def make(version: str = "1.0.0", content: str = "") -> Path:
        folder = tmp_path / f"unpacked-{version}{content}"
        return folder if folder.exists() else make_build(folder, version, content=content)

    return make


def mode_of(host: Machine, path: Path) -> int:
    return host.at(path).stat().st_mode & 0o7777


def test_a_new_host_gets_everything_the_agent_needs(host: RecordingHost, build: Callable[..., Path]) -> None:
    """Program, user, credential, configuration, unit; then systemd is told."""
    install(host, build(), demands=Demands(address="ingest.example.com:9443", tags=("env:prod",)))

    assert "1.0.0" == host.runs_version()
    assert unit_text() == host.at(layout.UNIT).read_text()
    assert ["systemd-sysusers", "ct-ops-agent.conf"] in host.ran
    assert [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "ct-ops-agent.service"],
        ["systemctl", "restart", "ct-ops-agent.service"],
    ] == host.ran[-3:]
    assert {"ingest": {"address": "ingest.example.com:9443"}, "agent": {"tags": ["env:prod"]}} == tomli.loads(
        host.at(layout.CONFIGURATION).read_text()
    )


def test_the_configuration_is_the_groups_to_read_and_holds_no_secret(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """The token is where root alone looks, and systemd hands it over."""
    install(host, build())

    assert 0o640 == mode_of(host, layout.CONFIGURATION)
    assert AGENT.group == host.owners[layout.CONFIGURATION].group
    assert 0 == host.owners[layout.CONFIGURATION].user
    assert TOKEN.reveal() not in host.at(layout.CONFIGURATION).read_text()
    assert f"{TOKEN.reveal()}\n" == host.at(layout.CREDENTIAL).read_text()
    assert (0o600, 0o700) == (mode_of(host, layout.CREDENTIAL), mode_of(host, layout.CREDENTIAL.parent))


def test_the_token_is_in_no_argument_and_in_no_line(host: RecordingHost, build: Callable[..., Path]) -> None:
    """Every user of a host can read the arguments of a process."""
    lines = install(host, build())

    assert TOKEN.reveal() not in repr(host.ran) + "\n".join(lines)


def test_a_systemd_without_a_credential_store_gets_the_token_by_a_folder(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """An absolute path whose file is gone would stop the unit; a folder without it does not."""
    install(host, build(), systemd_version=249)

    assert TOKEN.reveal() in host.at(layout.OLD_CREDENTIAL).read_text()
    assert (0o640, 0o750) == (
        mode_of(host, layout.OLD_CREDENTIAL),
        mode_of(host, layout.OLD_CREDENTIAL.parent),
    )
    drop_in = host.at(layout.CREDENTIAL_DROP_IN).read_text()
    assert "Environment=CREDENTIALS_DIRECTORY=/etc/ct-ops/agent-credentials" in drop_in
    assert not host.at(layout.CREDENTIAL).exists()


def test_the_folder_in_place_of_a_credential_store_goes_when_systemd_was_upgraded(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """Or the credential would never be seen."""
    install(host, build(), systemd_version=249)
    install(host, build(), systemd_version=252)

    assert not host.at(layout.CREDENTIAL_DROP_IN).exists()


def test_a_host_without_systemd_sysusers_gets_its_user_by_useradd(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """No shell, no home."""
    install(host, build(), has_sysusers=False)

    words = next(words for words in host.ran if words[0] == "useradd")
    assert ["--shell", "/usr/sbin/nologin", "ct-ops"] == words[-3:]


def test_installing_again_restarts_and_copies_nothing(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """An existing installer leaves what runs, so that its own work has no effect."""
    install(host, build())
    before = host.at(layout.VERSIONS / "1.0.0").stat().st_ino
    host.ran.clear()
    lines = install(host, build(), demands=Demands(tags=("a:b",)))

    assert ["systemctl", "restart", "ct-ops-agent.service"] in host.ran
    assert before == host.at(layout.VERSIONS / "1.0.0").stat().st_ino
    assert not any("copy" in line or "make the user" in line for line in lines)
    assert "a:b" in host.at(layout.CONFIGURATION).read_text()


def test_an_upgrade_keeps_one_version_to_go_back_to(host: RecordingHost, build: Callable[..., Path]) -> None:
    """And a downgrade is an installation like any other."""
    _enrolled(host)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        install(host, build(version), Secret(""))
    versions = looked_at(host).installed.versions
    install(host, build("1.1.0"), Secret(""))

    assert ("1.1.0", "1.2.0") == versions
    assert "1.1.0" == host.runs_version()
    assert ("1.1.0", "1.2.0") == looked_at(host).installed.versions


def test_the_version_before_can_be_installed_from_where_it_is(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """The way back: nothing is copied onto itself."""
    install(host, build("1.0.0"))
    install(host, build("1.1.0"))
    lines = install(host, host.at(layout.VERSIONS / "1.0.0"))

    assert "1.0.0" == host.runs_version()
    assert not any("copy" in line for line in lines)


def test_another_build_of_the_same_version_never_replaces_a_folder_in_use(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """It gets a name of its own."""
    install(host, build("1.0.0"))
    install(host, build("1.0.0", "changed"))
    first, second = looked_at(host).installed.versions

    assert "1.0.0" == first
    assert second.startswith("1.0.0-")
    assert second == looked_at(host).installed.current


def test_the_program_is_replaced_while_it_runs(host: RecordingHost, build: Callable[..., Path]) -> None:
    """Writing into it would be 'text file busy': it is another file under the same name."""
    existing_agent(host)
    with host.at(layout.PROGRAM).open() as running:
        install(host, build())

        assert "an existing agent" == running.read()
    assert host.at(layout.PROGRAM).is_symlink()


def test_an_existing_agent_is_taken_over_with_its_identity(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """Its token moves to the credential store, its unit goes, its files become the agent's, in this order."""
    existing_agent(host)
    install(host, build(), Secret(""))

    assert "opaque-secret\n" == host.at(layout.CREDENTIAL).read_text()
    assert {"ingest": {"address": "old:9443"}, "agent": {}} == tomli.loads(
        host.at(layout.CONFIGURATION).read_text()
    )
    assert 0o640 == mode_of(host, layout.CONFIGURATION)
    assert "User=ct-ops" in host.at(layout.UNIT).read_text()
    assert [layout.DATA] == host.given
    assert "key" == host.at(layout.DATA / "agent_key.pem").read_text()
    assert [
        ["systemctl", "stop", "ct-ops-agent.service"],
        ["systemctl", "restart", "ct-ops-agent.service"],
    ] == host.ran[-2:]


def test_an_authority_in_a_folder_of_roots_is_brought_where_the_agent_can_read_it(
    host: RecordingHost, build: Callable[..., Path], certificate: str
) -> None:
    """An existing agent was root and could read it anywhere."""
    hidden = host.at(Path("/root/ca.pem"))
    hidden.parent.mkdir(parents=True)
    hidden.write_text(certificate)
    hidden.chmod(0o600)
    host.at(layout.CONFIGURATION).parent.mkdir(parents=True)
    host.at(layout.CONFIGURATION).write_text('[ingest]\nca_cert_file = "/root/ca.pem"\n')
    install(host, build())

    assert str(layout.AUTHORITY) in host.at(layout.CONFIGURATION).read_text()
    assert certificate == host.at(layout.AUTHORITY).read_text()


def test_the_authority_of_a_bundle_is_copied(
    host: RecordingHost, build: Callable[..., Path], tmp_path: Path, certificate: str
) -> None:
    """The bundle may be gone a moment later. An existing installer never used it."""
    (tmp_path / "agent.toml").write_text('[ingest]\naddress = "a:1"\nca_cert_file = "./server-ca.crt"\n')
    (tmp_path / "server-ca.crt").write_text(certificate)
    install(host, build(), offered=tmp_path / "agent.toml")

    assert certificate == host.at(layout.AUTHORITY).read_text()
    assert {"address": "a:1", "ca_cert_file": str(layout.AUTHORITY)} == tomli.loads(
        host.at(layout.CONFIGURATION).read_text()
    )["ingest"]


def test_a_data_directory_of_the_operators_choice_is_let_into_the_sandbox(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """ProtectSystem=strict would have the agent fail at its first write."""
    host.at(layout.CONFIGURATION).parent.mkdir(parents=True)
    host.at(layout.CONFIGURATION).write_text('[agent]\ndata_dir = "/srv/ct ops/100%"\n')
    install(host, build())

    assert 'ReadWritePaths="/srv/ct ops/100%%"' in host.at(layout.DATA_DROP_IN).read_text()
    assert 0o700 == mode_of(host, Path("/srv/ct ops/100%"))


def test_environment_overrides_are_not_baked_into_the_file(
    host: RecordingHost, build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the shell of whoever installs happens to hold is nobody's configuration."""
    monkeypatch.setenv("CT_OPS_INGEST_ADDRESS", "elsewhere:1")
    monkeypatch.setenv("CT_OPS_DATA_DIR", "/elsewhere")
    install(host, build())

    assert "elsewhere" not in host.at(layout.CONFIGURATION).read_text()


def test_a_configuration_that_cannot_work_changes_nothing(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """Every problem is told before the first step."""
    host.at(layout.CONFIGURATION).parent.mkdir(parents=True)
    host.at(layout.CONFIGURATION).write_text("[agent]\nheartbeat_interval_secs = 0\nno_such_key = 1\n")
    with pytest.raises(ConfigError) as refused:
        install(host, build())

    assert {"agent.heartbeat_interval_secs", "agent.no_such_key"} == {p.key for p in refused.value.problems}
    assert not host.at(layout.VERSIONS).exists()


def test_a_damaged_token_changes_nothing(host: RecordingHost, build: Callable[..., Path]) -> None:
    """And is not shown."""
    with pytest.raises(ConfigError, match=r"agent\.enrolment_token") as refused:
        install(host, build(), Secret("two words of a secret\x01"))

    assert "secret" not in str(refused.value)
    assert not host.at(layout.VERSIONS).exists()


@pytest.mark.parametrize("begin", ["existing agent", "older version"])
def test_cut_short_between_any_two_steps_the_host_has_an_agent_that_works(
    begin: str, tmp_path: Path, build: Callable[..., Path]
) -> None:
    """And the same command again finishes it."""
    whole = _begun(tmp_path / "whole", begin, build)
    count = len(planned(whole, build("2.0.0"), Secret(""))[2])
    for done in range(count):
        host = _begun(tmp_path / f"cut-{done}", begin, build)
        _, _, steps = planned(host, build("2.0.0"), Secret(""))
        do_all(steps[:done], host, lambda _line: None)

        _assert_works(host)
        install(host, build("2.0.0"), Secret(""))
        assert "2.0.0" == host.runs_version()
        _assert_works(host)


def test_a_copy_that_was_cut_short_is_never_what_runs(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """It has another name, and the next installation begins it anew."""
    half = host.at(layout.VERSIONS / ".1.0.0.new")
    half.mkdir(parents=True)
    (half / "ct-ops-agent").write_text("half of it")
    facts = looked_at(host)
    install(host, build("1.0.0"))

    assert () == facts.installed.versions
    assert not half.exists()
    assert "1.0.0" == host.runs_version()


def test_a_step_that_fails_is_said_with_what_to_do(host: RecordingHost, build: Callable[..., Path]) -> None:
    """And those after it are not done."""
    host.fails = "daemon-reload"
    with pytest.raises(
        InstallationError, match=r"could not run systemctl daemon-reload: .*\n.*run the same command"
    ):
        install(host, build())

    assert ["systemctl", "daemon-reload"] == host.ran[-1]


def test_two_installations_at_once_do_not_mix(host: RecordingHost) -> None:
    """The second one is told to wait."""
    with only_one(host), pytest.raises(InstallationError, match="under way"), only_one(host):
        pass


def test_what_is_printed_is_what_is_done(host: RecordingHost, build: Callable[..., Path]) -> None:
    """The plan of a dry run is the very list of steps."""
    _, _, steps = planned(host, build())
    lines = install(host, build())

    assert [str(step) for step in steps] == [line.partition(". ")[2] for line in lines]


def test_every_reason_against_a_host_is_told_at_once(host: RecordingHost, build: Callable[..., Path]) -> None:
    """Not one after the other."""
    facts, wanted, _ = planned(host, build(), Secret(""))
    poor = replace(
        facts, may_be_changed=False, has_systemd=False, free_bytes=1024, library=Library(version=(2, 17))
    )
    told = "\n".join(complaints(poor, wanted, image=False))

    for part in ("as root", "systemd does not run", "make room", "glibc 2.17, and this build of the agent needs 2.31",
                 "no enrolment token"):  # fmt: skip
        assert part in told


def test_musl_is_refused_in_words(host: RecordingHost, build: Callable[..., Path]) -> None:
    """Instead of a program that 'is not found'."""
    facts, wanted, _ = planned(host, build())

    assert "musl" in "".join(complaints(replace(facts, library=Library(is_musl=True)), wanted, image=False))


def test_the_agent_of_a_package_is_left_to_the_package_manager(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """Two installers of one file undo each other."""
    unit = host.at(layout.PACKAGED_UNITS[0])
    unit.parent.mkdir(parents=True)
    unit.write_text(unit_text())
    facts, wanted, _ = planned(host, build())

    assert "came as a package" in "".join(complaints(facts, wanted, image=False))


def test_a_host_that_is_enrolled_needs_no_token(host: RecordingHost, build: Callable[..., Path]) -> None:
    """Its key is invitation enough."""
    _enrolled(host)
    facts, wanted, _ = planned(host, build(), Secret(""))

    assert [] == list(complaints(facts, wanted, image=False))


def test_an_operators_link_in_place_of_the_configuration_stays(
    host: RecordingHost, build: Callable[..., Path]
) -> None:
    """What it leads to is replaced instead."""
    real = host.at(Path("/srv/config/agent.toml"))
    real.parent.mkdir(parents=True)
    real.write_text('[agent]\nhostname = "web-1"\n')
    host.at(layout.CONFIGURATION).parent.mkdir(parents=True)
    host.at(layout.CONFIGURATION).symlink_to("/srv/config/agent.toml")
    install(host, build(), demands=Demands(tags=("a:b",)))

    assert host.at(layout.CONFIGURATION).is_symlink()
    assert {"agent": {"hostname": "web-1", "tags": ["a:b"]}} == tomli.loads(real.read_text())


def test_an_image_is_not_left_by_a_link_in_it(tmp_path: Path, build: Callable[..., Path]) -> None:
    """`/usr/local -> /opt/local` means the image's."""
    root, outside = tmp_path / "image", Path("/opt/local-of-an-image-under-test")
    (root / "usr").mkdir(parents=True)
    (root / "usr" / "local").symlink_to(outside)
    machine = RecordingHost(root, has_user=True)
    install(machine, build())

    assert (root / outside.relative_to("/") / "bin" / "ct-ops-agent").is_symlink()
    assert not outside.exists()


def _enrolled(host: Machine) -> None:
    host.at(layout.DATA).mkdir(parents=True, exist_ok=True)
    (host.at(layout.DATA) / "agent_key.pem").write_text("key")


def _begun(root: Path, begin: str, build: Callable[..., Path]) -> RecordingHost:
    root.mkdir()
    host = RecordingHost(root)
    if begin == "existing agent":
        existing_agent(host)
    else:
        install(host, build("1.0.0"))
        _enrolled(host)
    return host


def _assert_works(host: RecordingHost) -> None:
    """The program is whole, its configuration works, and the unit that is there can read it."""
    program = host.at(layout.PROGRAM)
    real = host.at(program.readlink()) if program.is_symlink() else program
    assert os.access(real, os.X_OK)
    if program.is_symlink():
        assert host.runs_version() in {"1.0.0", "2.0.0"}
        assert (real.parent / "_internal" / "library.so").is_file()
    load_config(Flags(config_file=host.at(layout.CONFIGURATION)), {})
    assert host.unit_can_read_configuration()
