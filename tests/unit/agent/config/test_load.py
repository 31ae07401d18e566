"""The sources of the configuration, their order, and every problem at once."""

import io
from datetime import timedelta
from pathlib import Path

import pytest

from ct_ops_agent.config.load import Flags, Loaded, load_config
from ct_ops_agent.config.schema import KEYS
from ct_ops_agent.control_plane import Tag
from ct_ops_agent.errors import ConfigError


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def load(toml: Path, text: str = "", /, flags: Flags | None = None, **environment: str) -> Loaded:
    toml.write_text(text)
    return load_config(flags or Flags(config_file=toml), environment)


def problems_of(
    toml: Path, text: str = "", /, flags: Flags | None = None, **environment: str
) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        load(toml, text, flags, **environment)
    return {problem.key: problem.text for problem in refused.value.problems}


def test_nothing_configured_has_the_documented_defaults(toml: Path) -> None:
    """The values that existing agents have, too."""
    config = load(toml).config

    assert (None, None, False, None) == (
        config.address,
        config.ca_cert_file,
        config.tls_skip_verify,
        config.enrolment_token,
    )
    assert (Path("/var/lib/ct-ops/agent"), timedelta(seconds=30)) == (
        config.data_dir,
        config.heartbeat_interval,
    )


def test_the_documented_file_is_understood(toml: Path, tmp_path: Path) -> None:
    """The example of the existing documentation, version key included."""
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    config = load(
        toml,
        f"""
        [ingest]
        address = "ingest.corp.example.com:9443"
        ca_cert_file = "{tmp_path / "ca.crt"}"
        [agent]
        enrolment_token = "tok_..."
        data_dir = "/var/lib/ct-ops/agent"
        version = "0.1.0"
        heartbeat_interval_secs = 45
        tags = ["env:prod"]
        """,
    ).config

    assert ("ingest.corp.example.com:9443", timedelta(seconds=45)) == (
        config.address,
        config.heartbeat_interval,
    )
    assert (Tag("env", "prod"),) == config.tags
    assert config.enrolment_token
    assert "tok_..." == config.enrolment_token.secret


def test_a_flag_wins_over_the_environment_and_that_over_the_file(toml: Path) -> None:
    """Flag > environment > file > default, for each key by itself."""
    text = '[ingest]\naddress = "file:1"\ntls_skip_verify = true\n[agent]\ntags = ["from:file"]\nhostname = "file"\n'
    flags = Flags(config_file=toml, address="flag:1")

    config = load(
        toml, text, flags, CT_OPS_INGEST_ADDRESS="environment:1", CT_OPS_TAGS="from:environment"
    ).config

    assert ("flag:1", (Tag("from", "environment"),), "file", True) == (
        config.address,
        config.tags,
        config.hostname,
        config.tls_skip_verify,
    )


def test_every_key_can_come_from_the_environment(toml: Path) -> None:
    """There is no value that only a file can set."""
    config = load(
        toml,
        CT_OPS_INGEST_ADDRESS="e:1",
        CT_OPS_INGEST_TLS_SKIP_VERIFY="true",
        CT_OPS_ENROLMENT_TOKEN="opaque",
        CT_OPS_DATA_DIR="/e",
        CT_OPS_HEARTBEAT_INTERVAL_SECS="7",
        CT_OPS_TAGS="a:b,c:d",
        CT_OPS_HOSTNAME="e",
        CT_OPS_AGENT_VERSION="ignored",
    ).config

    assert ("e:1", True, Path("/e"), 7.0, 2, "e") == (
        config.address,
        config.tls_skip_verify,
        config.data_dir,
        config.heartbeat_interval.total_seconds(),
        len(config.tags),
        config.hostname,
    )
    assert all(key.environment for key in KEYS)


def test_an_empty_value_counts_as_unset(toml: Path) -> None:
    """`CT_OPS_INGEST_ADDRESS=` in a unit does not hide the file."""
    text = '[ingest]\naddress = "file:1"\nca_cert_file = ""\n[agent]\norg_token = ""\n'
    loaded = load(toml, text, CT_OPS_INGEST_ADDRESS=" ")

    assert ("file:1", None, ()) == (loaded.config.address, loaded.config.ca_cert_file, loaded.warnings)


def test_old_names_work_with_one_warning_each(toml: Path) -> None:
    """org_token and CT_OPS_ORG_TOKEN, as existing installations have them."""
    in_file = load(toml, '[agent]\norg_token = "old"\n')
    in_environment = load(toml, CT_OPS_ORG_TOKEN="old")

    assert (
        "agent.org_token is the old name of agent.enrolment_token; rename it in the configuration file",
    ) == (in_file.warnings)
    assert (
        "CT_OPS_ORG_TOKEN is the old name of CT_OPS_ENROLMENT_TOKEN; rename it",
    ) == in_environment.warnings
    for loaded in (in_file, in_environment):
        assert loaded.config.enrolment_token
        assert "old" == loaded.config.enrolment_token.secret


def test_a_new_name_wins_over_the_old_one(toml: Path) -> None:
    """Both set: the new one is meant, and nothing has to be said."""
    loaded = load(toml, CT_OPS_ENROLMENT_TOKEN="new", CT_OPS_ORG_TOKEN="old")

    assert loaded.config.enrolment_token
    assert ("new", ()) == (loaded.config.enrolment_token.secret, loaded.warnings)


def test_the_token_leaves_the_environment(toml: Path) -> None:
    """No child process inherits an enrolment token, under either name."""
    environment = {"CT_OPS_ENROLMENT_TOKEN": "new", "CT_OPS_ORG_TOKEN": "old", "CT_OPS_DATA_DIR": "/x"}
    toml.write_text("")

    load_config(Flags(config_file=toml), environment)

    assert {"CT_OPS_DATA_DIR": "/x"} == environment


def test_all_problems_are_told_at_once(toml: Path) -> None:
    """Five mistakes in five places make five lines, each by its key."""
    text = """
        [ingest]
        address = "https://x"
        adress = "x:1"
        [agent]
        heartbeat_interval_secs = 0
        [agnet]
        tags = []
    """

    found = problems_of(toml, text, CT_OPS_INGEST_TLS_SKIP_VERIFY="perhaps")

    assert {
        "ingest.address",
        "ingest.adress",
        "agent.heartbeat_interval_secs",
        "agnet",
        "ingest.tls_skip_verify",
    } == set(found)


def test_a_mistyped_key_comes_with_a_guess(toml: Path) -> None:
    """Unknown keys are mistakes, and mostly one knows which."""
    found = problems_of(toml, '[ingest]\nadress = "x:1"\ndata_dir = "/x"\n[agent]\nzzz = 1\n[agnet]\n')

    assert "did you mean ingest.address?" in found["ingest.adress"]
    assert "did you mean agent.data_dir?" in found["ingest.data_dir"]
    assert "known are: agent.data_dir" in found["agent.zzz"]
    assert "did you mean agent?" in found["agnet"]


def test_a_problem_says_where_the_value_came_from(toml: Path) -> None:
    """A bad value in the environment is not looked for in the file."""
    found = problems_of(toml, CT_OPS_HEARTBEAT_INTERVAL_SECS="0")

    assert found["agent.heartbeat_interval_secs"].endswith("(from CT_OPS_HEARTBEAT_INTERVAL_SECS)")


def test_malformed_toml_is_told_with_its_position(toml: Path) -> None:
    """Line and column of what is no TOML."""
    assert "at line 2, column 11" in problems_of(toml, "[ingest]\naddress = x\n")["-config"]


def test_a_key_where_a_table_belongs_is_explained(toml: Path) -> None:
    """`agent = 1` instead of `[agent]`."""
    assert "write [agent] on a line of its own" in problems_of(toml, "agent = 1\n")["agent"]


def test_a_file_that_was_named_has_to_exist(tmp_path: Path) -> None:
    """The default file may be missing, a named one may not."""
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        load_config(Flags(config_file=tmp_path / "absent.toml"), {})


def test_a_file_that_is_no_text_is_explained(toml: Path) -> None:
    """A binary in the place of the configuration."""
    toml.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="no UTF-8 text"):
        load_config(Flags(config_file=toml), {})


def test_an_authority_file_is_looked_at_before_the_start(toml: Path, tmp_path: Path) -> None:
    """Missing, or without a certificate in it: said with all other problems."""
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")

    missing = problems_of(toml, CT_OPS_INGEST_CA_CERT="/nowhere/ca.pem")
    key = problems_of(toml, CT_OPS_INGEST_CA_CERT=str(tmp_path / "key.pem"))

    assert "cannot read /nowhere/ca.pem" in missing["ingest.ca_cert_file"]
    assert "holds no certificate" in key["ingest.ca_cert_file"]


def test_a_token_is_read_from_standard_input(toml: Path) -> None:
    """`-token -` keeps it out of the process list."""
    toml.write_text("")

    loaded = load_config(Flags(config_file=toml, token="-"), {}, stdin=io.StringIO("opaque\n"))

    assert loaded.config.enrolment_token
    assert ("opaque", ()) == (loaded.config.enrolment_token.secret, loaded.warnings)


def test_a_token_is_read_from_a_file(toml: Path, tmp_path: Path) -> None:
    """`-token-file PATH`, as systemd credentials need it."""
    (tmp_path / "token").write_text("opaque\n")

    config = load(toml, flags=Flags(config_file=toml, token_file=tmp_path / "token")).config

    assert config.enrolment_token
    assert "opaque" == config.enrolment_token.secret


def test_a_token_as_an_argument_works_and_warns(toml: Path) -> None:
    """Existing scripts pass it so; everybody on the host can read it."""
    loaded = load(toml, flags=Flags(config_file=toml, token="opaque"))

    assert loaded.config.enrolment_token
    assert "can be seen by every user of this host" in loaded.warnings[0]


def test_two_tokens_on_the_command_line_are_a_contradiction(toml: Path, tmp_path: Path) -> None:
    """Which one would be meant?"""
    (tmp_path / "token").write_text("opaque")

    found = problems_of(toml, flags=Flags(config_file=toml, token="-", token_file=tmp_path / "token"))

    assert "both -token and -token-file" in found["agent.enrolment_token"]


def test_no_representation_shows_the_token(toml: Path) -> None:
    """Flags, configuration and problems can be logged without harm."""
    secret = "tok_" + "a" * 32
    loaded = load(toml, CT_OPS_ENROLMENT_TOKEN=secret)

    assert secret not in repr(loaded) + repr(Flags(token=secret))
    assert secret not in str(problems_of(toml, CT_OPS_ENROLMENT_TOKEN=secret + ".cut"))


def test_a_token_comes_from_systemd_when_no_flag_and_no_variable_has_one(toml: Path, tmp_path: Path) -> None:
    """`LoadCredential=enrolment_token:…` needs nothing else in the unit."""
    (tmp_path / "enrolment_token").write_text("from-credential\n")
    text, folder = '[agent]\nenrolment_token = "from-file"\n', str(tmp_path)

    given = load(toml, text, CREDENTIALS_DIRECTORY=folder).config
    overridden = load(toml, text, CREDENTIALS_DIRECTORY=folder, CT_OPS_ENROLMENT_TOKEN="from-env").config
    elsewhere = load(toml, text, CREDENTIALS_DIRECTORY=str(tmp_path / "gone")).config

    secrets = [
        config.enrolment_token.secret for config in (given, overridden, elsewhere) if config.enrolment_token
    ]
    assert ["from-credential", "from-env", "from-file"] == secrets


def test_where_a_token_stands_is_known_only_when_it_was_taken_from_the_file(toml: Path) -> None:
    """Only that one can be removed from it."""
    text = '[agent]\nenrolment_token = "opaque"\n'

    assert toml == load(toml, text).config.token_file
    assert load(toml, text, CT_OPS_ENROLMENT_TOKEN="other").config.token_file is None
    assert load(toml).config.token_file is None
