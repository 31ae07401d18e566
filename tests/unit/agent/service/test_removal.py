"""Taking the agent off: what an installation put there goes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ct_ops_agent.cli import leaving
from ct_ops_agent.cli.leaving import Goodbye
from ct_ops_agent.cli.uninstalling import look, uninstall, uninstall_as_asked
from ct_ops_agent.errors import InstallationError
from ct_ops_agent.service import layout
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.removal import Presence, complaints, left_alone, plan_removal
from ct_ops_agent.service.survey import Installed
from fakes.recording_host import RecordingHost, make_build
from unit.agent.service.installing import existing_agent, install

FOREIGN = (
    Path("/etc/ct-ops/server.env"),
    Path("/etc/ct-ops/tls/server.key"),
    Path("/var/lib/ct-ops/server/keys/signing.pem"),
    Path("/var/lib/ct-ops/agent/notes-of-an-operator.txt"),
    Path("/usr/lib/ct-ops/server/1.0.0/ct-ops-server"),
    Path("/etc/systemd/system/ct-ops-agent.service.d/collectors.conf"),
    Path("/etc/credstore/another_token"),
)
MADE_BY_THE_AGENT = (
    "agent_key.pem", "agent_key.pub", "agent_state.json", "agent_cert.pem", "agent_ca.pem", "server_ca.pem",
    "outbox.sqlite3", "outbox.sqlite3-wal", "checks.json", "tasks.json", ".agent_state.json.41.new",
)  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> RecordingHost:
    """A host with an agent that has run, beside a server and an operator's files."""
    (tmp_path / "host").mkdir()
    host = RecordingHost(tmp_path / "host")
    for path in FOREIGN:
        put(host, path)
    install(host, make_build(tmp_path / "unpacked"))
    for name in MADE_BY_THE_AGENT:
        put(host, layout.DATA / name)
    return host


def put(host: RecordingHost, path: Path) -> None:
    host.at(path).parent.mkdir(parents=True, exist_ok=True)
    host.at(path).write_text("x")


def files_of(host: RecordingHost) -> set[Path]:
    return {
        Path("/") / path.relative_to(host.root)
        for path in host.root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_everything_that_was_installed_goes_and_everything_else_stays(host: RecordingHost) -> None:
    """An existing uninstaller deletes /etc/ct-ops and /var/lib/ct-ops whole: TLS and JWT keys of a server too."""
    uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert set(FOREIGN) == files_of(host)


def test_the_agent_is_stopped_before_anything_goes(host: RecordingHost) -> None:
    """And systemd is told afterwards."""
    host.ran.clear()
    uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert [
        ["systemctl", "stop", "ct-ops-agent.service"],
        ["systemctl", "disable", "ct-ops-agent.service"],
        ["systemctl", "daemon-reload"],
        ["userdel", "ct-ops"],
    ] == host.ran


def test_when_it_does_not_stop_nothing_goes(host: RecordingHost) -> None:
    """An existing uninstaller ignores every error and says that it is done."""
    before, host.fails = files_of(host), "stop"
    with pytest.raises(InstallationError, match="could not run systemctl stop"):
        uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert before == files_of(host)


def test_the_identity_can_be_kept_for_a_later_installation(host: RecordingHost, tmp_path: Path) -> None:
    """With the configuration, which may say where it is, and the user, whose files it has."""
    uninstall_as_asked(host, keep_identity=True, dry_run=False)

    assert {layout.DATA / name for name in MADE_BY_THE_AGENT} < files_of(host)
    assert layout.CONFIGURATION in files_of(host)
    assert not host.at(layout.PROGRAM).is_symlink()
    assert not host.at(layout.CREDENTIAL).exists()
    assert ["userdel", "ct-ops"] not in host.ran
    install(host, tmp_path / "unpacked")
    uninstall_as_asked(host, keep_identity=False, dry_run=False)
    assert set(FOREIGN) == files_of(host)
    assert ["userdel", "ct-ops"] == host.ran[-1]


def test_what_the_agent_writes_while_it_is_being_stopped_goes_too(host: RecordingHost) -> None:
    """It is looked for after the stop, not only before."""
    steps = plan_removal(look(host), keep_identity=False, image=False)
    put(host, layout.DATA / "rotate_key.request")
    for step in steps:
        step.do(host)

    assert set(FOREIGN) == files_of(host)


def test_what_is_left_is_said(host: RecordingHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Each thing with the reason."""
    uninstall_as_asked(host, keep_identity=False, dry_run=False)
    said = capsys.readouterr().out

    assert "left: in /var/lib/ct-ops/agent: notes-of-an-operator.txt: not the agent's" in said
    assert (
        "left: /etc/systemd/system/ct-ops-agent.service.d/collectors.conf: no installation wrote it" in said
    )


def test_a_dry_run_prints_what_would_be_done_and_does_nothing(
    host: RecordingHost, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line."""
    before = files_of(host)
    host.ran.clear()
    uninstall_as_asked(host, keep_identity=False, dry_run=True)
    planned = capsys.readouterr().out
    assert (before, []) == (files_of(host), host.ran)
    uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert planned == capsys.readouterr().out


def test_cut_short_at_any_step_the_same_command_finishes_it(tmp_path: Path) -> None:
    """Nothing is forgotten because its record went first."""
    build = make_build(tmp_path / "unpacked")
    for done in range(40):
        (tmp_path / f"host-{done}").mkdir()
        host = RecordingHost(tmp_path / f"host-{done}")
        install(host, build)
        put(host, layout.DATA / "agent_key.pem")
        steps = plan_removal(look(host), keep_identity=False, image=False)
        for step in steps[:done]:
            step.do(host)
        uninstall_as_asked(host, keep_identity=False, dry_run=False)

        assert set() == files_of(host)
        if done >= len(steps):
            break


def test_an_existing_agent_is_taken_off_too(tmp_path: Path) -> None:
    """Its program is a file, not a link; its user is root."""
    (tmp_path / "host").mkdir()
    host = RecordingHost(tmp_path / "host")
    existing_agent(host)
    uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert set() == files_of(host)


def test_a_user_that_was_there_before_stays(tmp_path: Path) -> None:
    """No installation made it."""
    (tmp_path / "host").mkdir()
    host = RecordingHost(tmp_path / "host", has_user=True)
    install(host, make_build(tmp_path / "unpacked"))
    install(host, tmp_path / "unpacked")  # a second time it is still not ours
    presence = look(host)
    uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert ["userdel", "ct-ops"] not in host.ran
    assert "the user ct-ops: no installation made it" in list(left_alone(presence, keep_identity=False))


def test_where_nothing_is_installed_nothing_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is no failure: the host is as it was asked to be."""
    host = RecordingHost(tmp_path)
    uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert [] == host.ran
    assert "no agent is installed here" in capsys.readouterr().out
    assert [] == list(tmp_path.iterdir())


def test_somebody_elses_program_of_that_name_stays(tmp_path: Path) -> None:
    """Without a unit that runs it nobody knows what it is."""
    host = RecordingHost(tmp_path)
    put(host, layout.PROGRAM)
    put(host, layout.CONFIGURATION)
    uninstall_as_asked(host, keep_identity=False, dry_run=False)

    assert {layout.PROGRAM} == files_of(host)


def test_whoever_is_not_root_is_told(tmp_path: Path) -> None:
    """As with the installation."""
    presence = Presence(Installed(is_packaged=True), tmp_path, (), frozenset(), has_user=False)
    told = list(complaints(presence, may_be_changed=False))

    assert ["run it as root", "with the package manager"] == [
        part for part in ("run it as root", "with the package manager") if part in "\n".join(told)
    ]


def test_beside_a_package_only_the_installation_goes(
    host: RecordingHost, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both were used, and the package's agent takes over: its version, the identity and the configuration stay."""
    put(host, layout.PACKAGED_UNITS[0])
    put(host, layout.VERSIONS / "9.9.9-of-the-package" / "ct-ops-agent")
    uninstall_as_asked(host, keep_identity=False, dry_run=False)
    left = files_of(host)

    assert {layout.VERSIONS / "9.9.9-of-the-package" / "ct-ops-agent", layout.CONFIGURATION} < left
    assert {layout.DATA / name for name in MADE_BY_THE_AGENT} < left
    assert not {layout.UNIT, layout.PROGRAM, layout.VERSIONS / "1.0.0" / "ct-ops-agent"} & left
    assert ["userdel", "ct-ops"] not in host.ran
    assert "the package's agent has them now" in capsys.readouterr().out
    with pytest.raises(InstallationError, match="package manager"):
        uninstall_as_asked(host, keep_identity=False, dry_run=False)


# ---- telling the server --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "says"),
    [(["--keep-identity"], "choose one of them"), (["--root", "/"], "not for an image")],
)
def test_what_deregister_cannot_go_with_is_a_usage_error(flags: list[str], says: str) -> None:
    """Before anything is looked at."""
    done = CliRunner().invoke(uninstall, ["--deregister", *flags])

    assert 2 == done.exit_code
    assert says in done.output


def test_a_dry_run_tells_no_server(host: RecordingHost, capsys: pytest.CaptureFixture[str]) -> None:
    """It says that one would be told, as the first thing."""
    uninstall_as_asked(host, keep_identity=False, dry_run=True, deregister=True)

    assert capsys.readouterr().out.startswith("  0. tell the server that this host leaves")


def test_nothing_is_taken_off_when_the_server_cannot_be_told(
    host: RecordingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is the only proof there is: it must not go before it was used."""
    before = files_of(host)

    def unanswered(_machine: Machine) -> Goodbye:
        raise InstallationError("not deregistered")

    monkeypatch.setattr(leaving, "say_goodbye", unanswered)
    with pytest.raises(InstallationError):
        uninstall_as_asked(host, keep_identity=False, dry_run=False, deregister=True)

    assert before == files_of(host)


@pytest.mark.parametrize("is_done", [True, False])
def test_what_is_left_to_be_done_on_the_server_is_said(
    host: RecordingHost,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_done: bool,
) -> None:
    """Nothing, once it knows; the command to type, when it could not be told."""
    host.at(layout.DATA / "agent_state.json").write_text('{"agent_id": "a1"}')
    monkeypatch.setattr(leaving, "say_goodbye", lambda _machine: Goodbye("goodbye", is_done))
    uninstall_as_asked(host, keep_identity=False, dry_run=False, deregister=True)
    said = capsys.readouterr().out

    assert said.startswith("goodbye\n")
    assert is_done is ("agent delete a1" not in said)
