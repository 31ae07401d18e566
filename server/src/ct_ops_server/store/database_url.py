"""Database addresses: from the form operators know to the form the drivers take. Pure.

Operators write ``DATABASE_URL`` as libpq and every other PostgreSQL client read it
(`libpq, connection URIs <https://www.postgresql.org/docs/current/libpq-connect.html>`_)::

    sqlite:////var/lib/ct-ops/server/ct-ops.db      four slashes: an absolute path
    postgresql://user:p%40ss@db.example:5432/ct_ops?sslmode=verify-full&sslrootcert=/etc/ct-ops/db-ca.pem
    postgres:///ct_ops?host=/run/postgresql         a socket directory
    postgresql://…?prepared_statements=off          behind a pooler in transaction mode (ours, not libpq's)

The rules kept here:

* Nothing is ignored. A parameter we do not know is an error that names it, because "sslmod=require"
  would otherwise connect in the clear.
* No error and no ``repr`` holds the password: errors name the part that is wrong, never the text.
* TLS is left to asyncpg, which knows libpq's modes and files; it takes them only inside a DSN, so
  they travel in one that holds nothing else.

Connecting is left to ``database``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from sqlalchemy import URL

from ct_ops_server.store.errors import DatabaseUrlError

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DEFAULT_CONNECT_TIMEOUT_S = 10.0

_TLS_PARAMETERS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_SERVER_SETTINGS = ("application_name", "options")
_PLACE_PARAMETERS = ("host", "port", "user", "password", "dbname")
_KNOWN_PARAMETERS = frozenset(
    (*_TLS_PARAMETERS, *_SERVER_SETTINGS, *_PLACE_PARAMETERS, "connect_timeout", "prepared_statements")
)


@dataclass(frozen=True, slots=True)
class SqliteTarget:
    """A database file on this host."""

    path: Path


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """A PostgreSQL database, in the words of SQLAlchemy and asyncpg."""

    url: URL
    """Masks its password in ``repr`` and ``str``."""
    connect_args: Mapping[str, object] = field(default_factory=dict)


Target = SqliteTarget | PostgresTarget


def parse_database_url(text: str) -> Target:
    """Translate a database address.

    Raises:
        DatabaseUrlError: the address is not one we can use.
    """
    scheme, separator, rest = text.strip().partition("://")
    if separator and scheme == "sqlite":
        return _parse_sqlite(rest)
    if separator and scheme in {"postgres", "postgresql"}:
        return _parse_postgres(rest)
    raise DatabaseUrlError("the address must start with sqlite:///, postgres:// or postgresql://")


def with_database(text: str, name: str) -> str:
    """Return the address of another database of the same PostgreSQL server."""
    place, _, query = text.strip().partition("?")
    scheme, _, rest = place.partition("://")
    parameters = [pair for pair in query.split("&") if pair and not pair.startswith("dbname=")]
    return f"{scheme}://{rest.partition('/')[0]}/{name}" + (f"?{'&'.join(parameters)}" if parameters else "")


def _parse_sqlite(rest: str) -> SqliteTarget:
    path = rest.removeprefix("/")
    if not rest.startswith("/") or path in {"", ":memory:"}:
        raise DatabaseUrlError("sqlite needs a file: sqlite:////absolute/path (four slashes)")
    if "?" in path:
        raise DatabaseUrlError("sqlite takes no parameters: remove everything from the '?' on")
    return SqliteTarget(Path(path))


def _parse_postgres(rest: str) -> PostgresTarget:
    place, _, query = rest.partition("?")
    network, _, database = place.partition("/")
    credentials, _, address = network.rpartition("@")
    user, _, password = credentials.partition(":")
    host, port = _split_address(address)
    named = {"user": user, "password": password, "host": host, "port": port, "dbname": database}
    parameters = {name: unquote(value) for name, value in named.items() if value} | _parse_query(query)
    return PostgresTarget(_driver_url(parameters), _connect_args(parameters))


def _split_address(address: str) -> tuple[str, str]:
    if address.startswith("["):
        host, bracket, port = address[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise DatabaseUrlError("an IPv6 address is written [address]:port")
        return host, port.removeprefix(":")
    host, _, port = address.partition(":")
    return host, port


def _parse_query(query: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    parameters = {unquote(name): unquote(value) for name, _, value in pairs}
    if unknown := sorted(parameters.keys() - _KNOWN_PARAMETERS):
        known = ", ".join(sorted(_KNOWN_PARAMETERS))
        raise DatabaseUrlError(f"unknown parameter {', '.join(unknown)} (known: {known})")
    return {name: value for name, value in parameters.items() if value}


def _driver_url(parameters: Mapping[str, str]) -> URL:
    host = parameters.get("host")
    if host is not None and "," in host:
        raise DatabaseUrlError("several hosts are not supported: name one, or a balancer before them")
    return URL.create(
        "postgresql+asyncpg",
        username=parameters.get("user"),
        password=parameters.get("password"),
        host=host,
        port=_parse_port(parameters.get("port")),
        database=parameters.get("dbname"),
    )


def _parse_port(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        # The text itself may be half of a password with an unescaped "/" or "@": not repeated here.
        raise DatabaseUrlError(
            "the port is not a number from 1 to 65535 (escape '/', '?', '@' and ':' in a password as %2F…)"
        )
    return int(text)


def _connect_args(parameters: Mapping[str, str]) -> dict[str, object]:
    arguments: dict[str, object] = {"timeout": _parse_timeout(parameters.get("connect_timeout"))}
    if settings := {name: parameters[name] for name in _SERVER_SETTINGS if name in parameters}:
        arguments["server_settings"] = settings
    if dsn := _tls_dsn(parameters):
        arguments["dsn"] = dsn
    if not _prepares_statements(parameters.get("prepared_statements", "on")):
        arguments |= _UNPREPARED
    return arguments


def _parse_timeout(text: str | None) -> float:
    if text is None:
        return DEFAULT_CONNECT_TIMEOUT_S
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise DatabaseUrlError("connect_timeout is a whole number of seconds above 0")
    return float(text)


def _tls_dsn(parameters: Mapping[str, str]) -> str:
    mode = parameters.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        raise DatabaseUrlError(f"sslmode is one of {', '.join(SSL_MODES)}")
    terms = [f"{name}={quote(parameters[name])}" for name in _TLS_PARAMETERS if name in parameters]
    return "postgresql://?" + "&".join(terms) if terms else ""


def _prepares_statements(text: str) -> bool:
    if text not in {"on", "off"}:
        raise DatabaseUrlError("prepared_statements is on or off")
    return text == "on"


def _unnamed() -> str:
    return ""


# A pooler in transaction mode gives every transaction another session: a named statement prepared in
# one is unknown in the next. Both caches (asyncpg's and SQLAlchemy's) off, every statement unnamed.
_UNPREPARED: Mapping[str, object] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": _unnamed,
}
