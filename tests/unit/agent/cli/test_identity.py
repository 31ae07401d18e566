"""`ct-ops-agent identity` and `enrolment` on an enrolled host and on others."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_agent.cli import main
from ct_ops_agent.cli.enrolment import forget_credentials
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.files import locked_directory
from ct_ops_agent.identity.keystore import KeyPair, keep_key_pair
from ct_ops_agent.identity.rotation import REQUEST_NAME
from ct_ops_agent.secret import Secret
from ct_ops_agent.status.place import STATUS_NAME, write_report
from ct_ops_agent.status.report import Report, State
from fakes.conforming_server import issue_leaf, make_authority

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpYXQiOjEwLCJleHAiOjIwfQ.c2lnbmF0dXJl"
SECRET = "tok_" + "a" * 32


@pytest.fixture
def keys() -> KeyPair:
    """The agent's key pair."""
    return make_key_pair()


@pytest.fixture
def data(tmp_path: Path, keys: KeyPair) -> Path:
    """The data directory of an enrolled host."""
    folder = tmp_path / "data"
    with locked_directory(folder):
        keep_key_pair(folder, keys)
        ends = datetime.now(UTC) + timedelta(days=90)
        leaf = issue_leaf(
            make_authority("CA"), "agent-1", Ed25519PublicKey.from_public_bytes(keys.public), ends
        )
        identity = Identity("agent-1", Secret(TOKEN), keys, leaf, "ca", int(ends.timestamp()))
        CredentialStore(folder).keep_identity(identity)
    return folder


def call(data: Path, *arguments: str, **environment: str) -> Result:
    places = {"CT_OPS_DATA_DIR": str(data), "RUNTIME_DIRECTORY": str(data)}
    return CliRunner().invoke(main, arguments, env=places | environment)


def report_now(data: Path, state: State, *features: str) -> None:
    """Let this very process have reported."""
    now = time.time()
    report = Report(os.getpid(), "1.0", str(data), state, now, now, features=features, acknowledged_at=now)
    write_report(data / STATUS_NAME, report)


def test_an_identity_is_shown_without_its_secrets(data: Path, keys: KeyPair) -> None:
    """Ids, dates, files; neither the private key nor the agent token."""
    human, machine = call(data, "identity", "show"), call(data, "identity", "show", "--json")

    document = json.loads(machine.output)
    assert (0, 0) == (human.exit_code, machine.exit_code)
    assert ("agent-1", keys.key_id, "1970-01-01T00:00:20Z") == (
        document["agent_id"],
        document["key_id"],
        document["agent_token_expires_at"],
    )
    assert str(data / "agent_key.pem") in document["files"]
    assert f"{'key id':<24}{keys.key_id}\n" in human.output
    for output in (human.output, machine.output):
        assert "eyJ" not in output
        assert "PRIVATE KEY" not in output


@pytest.mark.parametrize(
    "arguments", [("identity", "show"), ("identity", "rotate-key"), ("enrolment", "forget-token")]
)
def test_a_host_that_is_not_enrolled_has_no_identity(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 1 and a sentence; nothing is made."""
    result = call(tmp_path, *arguments)

    assert 1 == result.exit_code
    assert "this host is not enrolled" in result.stderr
    assert [] == list(tmp_path.iterdir())


def test_a_rotation_with_no_agent_running_waits_for_the_next_start(data: Path) -> None:
    """The request is left behind."""
    result = call(data, "identity", "rotate-key")

    assert (0, "no agent runs here: the key is replaced at its next start\n") == (
        result.exit_code,
        result.output,
    )
    assert (data / REQUEST_NAME).exists()


@pytest.mark.parametrize(
    ("state", "features", "code", "said"),
    [
        (State.CONNECTED, (), 77, "this server cannot replace keys"),
        (State.WAITING, ("renewal",), 69, "the agent is not connected (waiting to reconnect)"),
    ],
)
def test_a_rotation_that_cannot_happen_now_is_not_asked_for(
    data: Path, state: State, features: tuple[str, ...], code: int, said: str
) -> None:
    """An existing server, or none: said at once, and no request stays behind."""
    with locked_directory(data):
        report_now(data, state, *features)
        result = call(data, "identity", "rotate-key")

    assert code == result.exit_code
    assert said in result.stderr
    assert not (data / REQUEST_NAME).exists()


def test_a_rotation_that_takes_too_long_is_told(data: Path) -> None:
    """The request stays: the agent may still do it."""
    with locked_directory(data):
        report_now(data, State.CONNECTED, "renewal")
        result = call(data, "identity", "rotate-key", "--timeout", "0")

    assert 69 == result.exit_code
    assert "no new key after 0 s; the request stays" in result.stderr
    assert (data / REQUEST_NAME).exists()


def test_the_token_is_forgotten_and_other_sources_are_named(data: Path, tmp_path: Path) -> None:
    """What cannot be changed from here is at least said."""
    file = tmp_path / "agent.toml"
    file.write_text(f'# ours\n[agent]\nenrolment_token = "{SECRET}"\n')
    (tmp_path / "enrolment_token").write_text(SECRET)

    result = call(
        data,
        "enrolment",
        "forget-token",
        "-config",
        str(file),
        CT_OPS_ENROLMENT_TOKEN=SECRET,
        CREDENTIALS_DIRECTORY=str(tmp_path),
    )

    assert (0, "# ours\n[agent]\n") == (result.exit_code, file.read_text())
    assert f"removed from {file}\n" == result.stdout
    assert "it also comes from the environment (CT_OPS_ENROLMENT_TOKEN)" in result.stderr
    assert "it also comes from the systemd credential enrolment_token" in result.stderr
    assert SECRET not in result.output


def test_a_file_that_is_not_there_holds_no_token(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default file may be missing; then there is nothing to forget."""
    monkeypatch.setattr("ct_ops_agent.cli.enrolment.DEFAULT_FILE", data / "agent.toml")

    result = call(data, "enrolment", "forget-token")

    assert (0, f"{data / 'agent.toml'} holds no enrolment token\n") == (result.exit_code, result.stdout)


def test_a_host_that_waits_for_approval_is_told_so_and_by_which_name(tmp_path: Path, keys: KeyPair) -> None:
    """It is on the operator's list under that id; a host that never asked is not enrolled."""
    waiting, new = tmp_path / "waiting", tmp_path / "new"
    for folder in (waiting, new):
        with locked_directory(folder):
            keep_key_pair(folder, keys)
    CredentialStore(waiting).keep_pending("agent-7")

    assert "waits for approval as agent agent-7" in call(waiting, "identity", "show").output
    assert "is not enrolled" in call(new, "identity", "show").output


def test_a_token_in_the_credential_store_is_forgotten_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not there is no matter; what cannot be removed is said."""
    place, folder = tmp_path / "enrolment_token", tmp_path / "folder"
    place.write_text("tok_x")
    folder.mkdir()
    forget_credentials((place, tmp_path / "nothing", folder))
    said = capsys.readouterr()

    assert not place.exists()
    assert f"removed {place}\n" == said.out
    assert f"warning: {folder} cannot be removed" in said.err
