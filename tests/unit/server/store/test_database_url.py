"""Addresses of databases: libpq's form in, the drivers' form out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_server.store.database_url import PostgresTarget, SqliteTarget, parse_database_url
from ct_ops_server.store.errors import DatabaseUrlError


def postgres(text: str) -> PostgresTarget:
    target = parse_database_url(text)
    assert isinstance(target, PostgresTarget)
    return target


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:////var/lib/ct-ops/ct-ops.db", "/var/lib/ct-ops/ct-ops.db"),
        ("sqlite:///relative/ct-ops.db", "relative/ct-ops.db"),
        ("  sqlite:////with space/and#hash.db\n", "/with space/and#hash.db"),
    ],
)
def test_sqlite_addresses_name_a_file(text: str, path: str) -> None:
    """Four slashes make the path absolute."""
    assert SqliteTarget(Path(path)) == parse_database_url(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("postgresql://ada@db.example/ct", ("ada", None, "db.example", None, "ct")),
        ("postgres://ada:secret@db.example:6432/ct", ("ada", "secret", "db.example", 6432, "ct")),
        ("postgresql://a%40b:p%2F%3A%40%3F%25@db/c%20t", ("a@b", "p/:@?%", "db", None, "c t")),
        ("postgresql://ada:a+b@db/ct", ("ada", "a+b", "db", None, "ct")),
        ("postgresql://ada@[2001:db8::7]:6432/ct", ("ada", None, "2001:db8::7", 6432, "ct")),
        ("postgresql://[::1]/ct", (None, None, "::1", None, "ct")),
        ("postgresql:///ct?host=/run/postgresql", (None, None, "/run/postgresql", None, "ct")),
        ("postgresql://%2Frun%2Fpostgresql/ct", (None, None, "/run/postgresql", None, "ct")),
        ("postgresql://db?dbname=ct&user=ada&password=x%26y", ("ada", "x&y", "db", None, "ct")),
        ("postgresql://other:1/no?host=db&port=2&dbname=ct", (None, None, "db", 2, "ct")),
        ("postgresql://", (None, None, None, None, None)),
    ],
)
def test_postgres_addresses_are_read_as_libpq_reads_them(text: str, place: tuple[object, ...]) -> None:
    """Percent-encoding, IPv6 and socket directories; a parameter beats its place before the '?'."""
    url = postgres(text).url

    assert place == (url.username, url.password, url.host, url.port, url.database)


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("", {"timeout": 10.0}),
        ("connect_timeout=3", {"timeout": 3.0}),
        ("sslmode=disable", {"timeout": 10.0, "dsn": "postgresql://?sslmode=disable"}),
        (
            "sslmode=verify-full&sslrootcert=/etc/ca%20s.pem&sslcert=/c.pem&sslkey=/k.pem",
            {
                "timeout": 10.0,
                "dsn": "postgresql://?sslmode=verify-full&sslrootcert=/etc/ca%20s.pem&sslcert=/c.pem&sslkey=/k.pem",
            },
        ),
        (
            "application_name=ct-ops&options=-c%20search_path%3Dops",
            {
                "timeout": 10.0,
                "server_settings": {"application_name": "ct-ops", "options": "-c search_path=ops"},
            },
        ),
        ("prepared_statements=on", {"timeout": 10.0}),
    ],
)
def test_parameters_become_what_asyncpg_takes(query: str, arguments: dict[str, object]) -> None:
    """The driver reads TLS files only from an address, so those travel in one of their own."""
    assert arguments == postgres(f"postgresql://db/ct?{query}").connect_args


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
def test_every_sslmode_of_libpq_is_taken(mode: str) -> None:
    """None of libpq's modes is left out."""
    assert (
        f"postgresql://?sslmode={mode}" == postgres(f"postgresql://db/ct?sslmode={mode}").connect_args["dsn"]
    )


def test_behind_a_pooler_nothing_is_prepared() -> None:
    """One setting turns off both caches and every name of a statement."""
    arguments = postgres("postgresql://db/ct?prepared_statements=off").connect_args
    name_of = arguments["prepared_statement_name_func"]

    assert (0, 0) == (arguments["statement_cache_size"], arguments["prepared_statement_cache_size"])
    assert callable(name_of)
    assert not name_of()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must start with"),
        ("mysql://db/ct", "must start with"),
        ("postgresql+asyncpg://db/ct", "must start with"),
        ("/var/lib/ct-ops.db", "must start with"),
        ("sqlite://", "needs a file"),
        ("sqlite:///", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:////x.db?mode=ro", "no parameters"),
        ("postgresql://one,two/ct", "several hosts"),
        ("postgresql:///ct?host=one,two", "several hosts"),
        ("postgresql://[::1/ct", "IPv6"),
        ("postgresql://db:five/ct", "port"),
        ("postgresql://db:70000/ct", "port"),
        ("postgresql://db/ct?port=0", "port"),
        ("postgresql://db/ct?sslmod=require", "sslmod "),
        ("postgresql://db/ct?foo=1&bar=2", "unknown parameter bar, foo"),
        ("postgresql://db/ct?sslmode=sometimes", "verify-full"),
        ("postgresql://db/ct?connect_timeout=soon", "connect_timeout"),
        ("postgresql://db/ct?prepared_statements=perhaps", "prepared_statements"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(text: str, says: str) -> None:
    """Nothing is ignored: a typing error must not switch off TLS."""
    with pytest.raises(DatabaseUrlError, match=says):
        parse_database_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ada:hunter2@db:port/ct",
        "postgresql://ada:hunter2/with-a-slash@db/ct",
        "postgresql://ada:hunter2@db/ct?nonsense=1",
        "postgresql://ada@db/ct?password=hunter2&sslmode=no",
        "mysql://ada:hunter2@db/ct",
        "postgresql://ada:hunter2@[::1/ct",
    ],
)
def test_no_error_holds_the_password(text: str) -> None:
    """Errors name the part that is wrong, never the text of the address."""
    with pytest.raises(DatabaseUrlError) as refused:
        parse_database_url(text)

    assert "hunter2" not in repr(refused.value)
    assert refused.value.__cause__ is None


def test_no_repr_holds_the_password() -> None:
    """A target may end up in a log or a traceback."""
    target = postgres("postgresql://ada:hunter2@db/ct?password=hunter2&sslmode=require")

    assert "hunter2" not in f"{target!r} {target.url}"
