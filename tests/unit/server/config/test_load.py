"""From environment and file to settings, or to all the problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_server.config.load import check, describe, load_settings
from ct_ops_server.config.problems import ConfigError, Problem
from ct_ops_server.config.schema import Settings, Source
from ct_ops_server.config.variables import DEFERRED, OF_AGENTS, VARIABLES


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / "server.env"


def _problems(environ: dict[str, str], env_file: Path) -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, env_file=env_file)
    return {problem.name: problem for problem in caught.value.problems}


def test_nothing_has_to_be_set(env_file: Path) -> None:
    """A newcomer's settings are the documented defaults."""
    settings = load_settings({}, env_file=env_file)

    assert "sqlite:////var/lib/ct-ops/server/ct-ops.db" == settings.database_url
    assert Path("/var/lib/ct-ops/server/secret") == settings.secret_file
    assert (None, 9443) == (settings.grpc_host, settings.grpc_port)
    assert ("127.0.0.1", 8080) == (settings.http_host, settings.http_port)
    assert () == settings.public_addresses
    assert settings.tls_cert is settings.tls_key is settings.tls_ca is settings.jwt_key_file is None
    assert () == settings.notices


def test_a_web_certificate_that_is_nowhere_is_off_and_mentioned(env_file: Path) -> None:
    """Nobody asked for it: an information, no warning and no error."""
    settings = load_settings({}, env_file=env_file)

    assert settings.web_server_cert is None
    assert "INGEST_WEB_SERVER_CERT" in settings.information[0]


def test_a_web_certificate_that_is_set_and_unreadable_is_an_error(env_file: Path) -> None:
    """Somebody asked for it."""
    assert {"INGEST_WEB_SERVER_CERT"} == set(
        _problems({"INGEST_WEB_SERVER_CERT": "/nonexistent.crt"}, env_file)
    )


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_web_certificate_turns_it_off_without_a_word(env_file: Path, empty: str) -> None:
    """Emptiness says something here, as the product's documentation has it."""
    settings = load_settings({"INGEST_WEB_SERVER_CERT": empty}, env_file=env_file)

    assert (None, ()) == (settings.web_server_cert, settings.information)


def test_what_lies_in_the_data_directory_follows_it(env_file: Path, tmp_path: Path) -> None:
    """The defaults of database and secret move with INGEST_DATA_DIR, whatever its name."""
    settings = load_settings({"INGEST_DATA_DIR": f"{tmp_path}/odd #name"}, env_file=env_file)

    assert f"sqlite:///{tmp_path}/odd #name/ct-ops.db" == settings.database_url
    assert tmp_path / "odd #name" / "secret" == settings.secret_file


def test_the_environment_wins_over_the_file(env_file: Path) -> None:
    """And `config show` tells where each value came from."""
    env_file.write_text("INGEST_GRPC_PORT=1\nINGEST_HTTP_PORT=2\n")

    settings = load_settings({"INGEST_GRPC_PORT": "3"}, env_file=env_file)

    assert (3, 2) == (settings.grpc_port, settings.http_port)
    assert settings.sources["INGEST_GRPC_PORT"] is Source.ENVIRONMENT
    assert settings.sources["INGEST_HTTP_PORT"] is Source.FILE
    assert settings.sources["INGEST_HTTP_HOST"] is Source.DEFAULT


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_is_unset(env_file: Path, empty: str) -> None:
    """An empty variable of a compose file does not hide the file's value or the default."""
    env_file.write_text("INGEST_GRPC_PORT=1\n")

    settings = load_settings({"INGEST_GRPC_PORT": empty, "DATABASE_URL": empty}, env_file=env_file)

    assert 1 == settings.grpc_port
    assert settings.sources["DATABASE_URL"] is Source.DEFAULT


def test_every_problem_is_told_at_once_with_what_to_do(env_file: Path) -> None:
    """File, names, values, files and combinations: one start tells them all."""
    env_file.write_text("INGEST_HTTP_PRT=8081\nbroken line\n")
    environ = {
        "DATABASE_URL": "mysql://u:hunter2@h/d",
        "INGEST_DATA_DIR": "relative",
        "INGEST_GRPC_PORT": "70000",
        "INGEST_PUBLIC_ADDRESS": "ops.example.com",
        "INGEST_TLS_CERT": "/nonexistent/server.crt",
        "INGEST_SECRET_FILE": "/nonexistent/secret",
    }

    problems = _problems(environ, env_file)

    expected = {*environ, "INGEST_HTTP_PRT", f"{env_file}:2", "INGEST_TLS_KEY"}
    assert expected == set(problems)
    assert all(problem.remedy for problem in problems.values())
    text = str(ConfigError(list(problems.values())))
    assert len(text.splitlines()) == len(problems)
    assert "hunter2" not in text


def test_one_mistake_is_told_once(env_file: Path) -> None:
    """What only follows from a malformed value is not told on top of it."""
    problems = _problems({"INGEST_TLS_CERT": "relative.crt", "INGEST_HTTP_PORT": "x"}, env_file)

    assert {"INGEST_TLS_CERT", "INGEST_HTTP_PORT"} == set(problems)
    assert "is no absolute path" == problems["INGEST_TLS_CERT"].what


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("INGEST_GRPC_PROT", "INGEST_GRPC_PORT"),
        ("INGEST_TLS_CERTIFICATE", "INGEST_TLS_CERT"),
        ("INGEST_TERMINAL_TRUSTED_ORIGIN", "INGEST_TERMINAL_TRUSTED_ORIGINS"),
        ("CT_OPS_TRUST_PROXY_HEADER", "CT_OPS_TRUST_PROXY_HEADERS"),
    ],
)
def test_an_unknown_name_with_our_prefix_is_a_problem(env_file: Path, name: str, guess: str) -> None:
    """A mistyped name is never silently without effect."""
    assert guess in _problems({name: "x"}, env_file)[name].remedy


def test_attack_a_mistyped_database_url_does_not_start_an_empty_database(env_file: Path) -> None:
    """In our own file a name that is nearly ours is a problem without a prefix too; elsewhere it is not ours."""
    env_file.write_text("DATABSE_URL=postgresql://db/ops\n")

    assert "DATABASE_URL" in _problems({}, env_file)["DATABSE_URL"].remedy
    assert [] == check({"DATABSE_URL": "x", "HTTP_PROXY": "x"}, env_file=env_file.with_name("none"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INGEST_SERVICE_HOST", "10.0.0.1"),
        ("INGEST_SERVICE_PORT_GRPC", "9443"),
        ("INGEST_PORT", "tcp://10.0.0.1:9443"),
        ("INGEST_PORT_9443_TCP_ADDR", "10.0.0.1"),
        ("CT_OPS_SERVICE_PORT", "443"),
    ],
)
def test_what_an_orchestrator_injects_is_no_mistake(env_file: Path, name: str, value: str) -> None:
    """Kubernetes sets these for every service called ingest or ct-ops."""
    assert [] == check({name: value}, env_file=env_file)


def test_names_of_agents_are_nobodys_mistake(env_file: Path) -> None:
    """An agent's variables may share the environment and mean nothing to the server."""
    settings = load_settings(dict.fromkeys(OF_AGENTS, "x"), env_file=env_file)

    assert () == settings.notices


def test_seed_variables_without_effect_make_one_line(env_file: Path) -> None:
    """All that are set are named in one sentence, with none of their values."""
    settings = load_settings(dict.fromkeys(DEFERRED, "hunter2"), env_file=env_file)

    (line,) = settings.notices
    assert all(name in line for name in DEFERRED)
    assert "hunter2" not in line


def test_the_old_name_of_the_database_works_and_is_told(env_file: Path) -> None:
    """DATABASE_URL beats INGEST_DATABASE_URL, as in existing servers."""
    old = load_settings({"INGEST_DATABASE_URL": "postgresql:///old"}, env_file=env_file)
    both = load_settings(
        {"INGEST_DATABASE_URL": "postgresql:///old", "DATABASE_URL": "postgresql:///new"}, env_file=env_file
    )

    assert "postgresql:///old" == old.database_url
    assert "INGEST_DATABASE_URL is the old name of DATABASE_URL" in old.notices[0]
    assert "postgresql:///new" == both.database_url
    assert () == both.notices


def test_a_secret_may_come_from_a_file(env_file: Path, tmp_path: Path) -> None:
    """DATABASE_URL_FILE names a file whose end of line does not belong to the secret."""
    (tmp_path / "url").write_text("postgresql://u:p@db/ops\n")

    settings = load_settings({"DATABASE_URL_FILE": str(tmp_path / "url")}, env_file=env_file)

    assert "postgresql://u:p@db/ops" == settings.database_url
    assert () == settings.notices


def test_a_secret_given_twice_is_a_problem(env_file: Path) -> None:
    """Nobody can know which was meant; only between environment and file there is an order."""
    url = "postgresql:///ops"
    assert (
        "both set"
        in _problems({"DATABASE_URL": url, "DATABASE_URL_FILE": "/x"}, env_file)["DATABASE_URL"].what
    )

    env_file.write_text("DATABASE_URL_FILE=/nonexistent\n")
    assert url == load_settings({"DATABASE_URL": url}, env_file=env_file).database_url


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 70000])
def test_a_secrets_file_that_holds_none_is_a_problem(
    env_file: Path, tmp_path: Path, content: bytes | None
) -> None:
    """Missing, empty, binary or endless."""
    if content is not None:
        (tmp_path / "url").write_bytes(content)

    problems = _problems({"DATABASE_URL_FILE": str(tmp_path / "url")}, env_file)

    assert {"DATABASE_URL_FILE"} == set(problems)


@pytest.mark.parametrize(
    ("grpc", "http", "clash"),
    [
        ({}, {"INGEST_HTTP_PORT": "9443"}, True),
        ({"INGEST_GRPC_HOST": "127.0.0.1"}, {"INGEST_HTTP_PORT": "9443"}, True),
        ({"INGEST_GRPC_HOST": "192.0.2.1"}, {"INGEST_HTTP_PORT": "9443"}, False),
        (
            {"INGEST_GRPC_HOST": "192.0.2.1"},
            {"INGEST_HTTP_PORT": "9443", "INGEST_HTTP_HOST": "0.0.0.0"},
            True,
        ),
        ({"INGEST_GRPC_PORT": "0"}, {"INGEST_HTTP_PORT": "0"}, False),
    ],
)
def test_two_listeners_cannot_share_a_port(
    env_file: Path, grpc: dict[str, str], http: dict[str, str], *, clash: bool
) -> None:
    """Told before the start instead of by a failing bind."""
    assert clash == bool(check(grpc | http, env_file=env_file))


def test_show_masks_passwords(env_file: Path) -> None:
    """What is in effect is listed for every variable, with its source, and without a secret."""
    settings = load_settings(
        {"DATABASE_URL": "postgresql://ops:hunter2@db/ops", "INGEST_PUBLIC_ADDRESS": "a:1,b:2"},
        env_file=env_file,
    )
    shown = {line["name"]: line for line in describe(settings)}

    assert [variable.name for variable in VARIABLES] == list(shown)
    assert {
        "name": "DATABASE_URL",
        "value": "postgresql://ops:***@db/ops",
        "source": "environment",
    } == shown["DATABASE_URL"]
    assert "a:1,b:2" == shown["INGEST_PUBLIC_ADDRESS"]["value"]
    assert "" == shown["INGEST_GRPC_HOST"]["value"]
    assert "hunter2" not in repr(settings)


def test_every_variable_fills_a_field(env_file: Path) -> None:
    """Table and settings cannot drift apart."""
    fields = {variable.field for variable in VARIABLES}

    assert fields | {"sources", "notices", "information"} == set(Settings.__dataclass_fields__)
