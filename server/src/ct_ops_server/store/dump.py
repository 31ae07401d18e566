"""A copy of a PostgreSQL database by PostgreSQL's own tools, and the way back to it.

``pg_dump`` and ``psql`` come with every PostgreSQL client and know their server; what is added here is what they need
to be told. Rules kept:

* The password travels in their environment, never in an argument, which every user of a host can read.
* Only tables of ours are copied, and only they are replaced: a database may hold something else besides.
* Going back is one transaction: either everything is as it was, or nothing has changed. Tables that a newer
  version made go, or the next upgrade would stumble over them: so it is the newer version that goes back.

Where there is no client on this host, a sentence says so; ``backup`` is who calls this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from ct_ops_server.store.all_tables import metadata
from ct_ops_server.store.database_url import PostgresTarget
from ct_ops_server.store.errors import BackupError
from ct_ops_server.store.migrations import UNSETTLED
from ct_ops_server.store.partition_names import PATTERNS

_TLS = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PGPASSFILE", "PGSERVICEFILE")
_VERSION_TABLE = "alembic_version"
ANOTHER_STORE = "UPDATE installation SET store_id = uuid_send(gen_random_uuid());"
"""For agents it is another one by then, and they deliver again what they retained since."""

LOCK_PATIENCE_S = 15
"""For whoever else uses the tables that go: a session that somebody forgot would hold up the way back for ever."""

_A_TABLE = re.compile(r"^\d+; \d+ \d+ TABLE \S+ (\S+) \S+$", re.MULTILINE)


def write_dump(target: PostgresTarget, file: Path, *, snapshot: str | None = None) -> None:
    """Write our tables to ``file``, in pg_dump's custom form; as an exported ``snapshot`` sees them, if there is one.

    Raises:
        BackupError: pg_dump is missing or fails, or there are no tables yet.
    """
    _refuse_an_empty_one(target)
    ours = [f"--table={name}" for name in (*our_tables(), *PATTERNS)]
    moment = [] if snapshot is None else [f"--snapshot={snapshot}"]
    options = ("--format=custom", "--no-owner", "--no-privileges", f"--file={file}")
    _run("pg_dump", target, *options, *moment, *ours)


def read_dump(target: PostgresTarget, file: Path, *, then: str = "") -> None:
    """Put the tables of ``file`` in the place of ours and do what ``then`` says in SQL, in one transaction.

    Raises:
        BackupError: a tool is missing or fails, or the file is no copy; the database is as it was.
    """
    listed = _A_TABLE.findall(_run("pg_restore", target, "--list", str(file)))
    if _VERSION_TABLE not in listed:
        raise BackupError(f"{file} is no copy of a CT-Ops database")
    with tempfile.TemporaryDirectory(prefix="ct-ops-restore-") as scratch:
        script, tables = Path(scratch, "restore.sql"), Path(scratch, "tables.sql")
        options = ("--no-owner", "--no-privileges", f"--file={tables}")
        _run("pg_restore", target, *options, str(file))
        # What pg_restore writes leaves no search path.
        after = f"RESET search_path;\n{then}\n"
        script.write_text(dropping((*our_tables(), *listed)) + f"\\i {tables}\n" + after)
        settings = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
        _run("psql", target, *settings, f"--file={script}")


def our_tables() -> tuple[str, ...]:
    """Return the names of the tables that this version knows."""
    return (*sorted(metadata.tables), _VERSION_TABLE)


def dropping(tables: Iterable[str]) -> str:
    """Return the SQL that drops tables that refer to each other; what somebody else hung on them stops it."""
    names = ", ".join(f'"{name}"' for name in sorted(set(tables)))
    patience = f"SET lock_timeout = '{LOCK_PATIENCE_S}s';\n"
    return f"SET client_min_messages = warning;\n{patience}DROP TABLE IF EXISTS {names};\n"


def hold_back() -> str:
    """Return the SQL after which no server opens the database, until ``let_in``: it still tells its revision."""
    return f"UPDATE {_VERSION_TABLE} SET version_num = '{UNSETTLED} ' || version_num;"  # noqa: S608 - names of ours


def let_in(target: PostgresTarget) -> None:
    """Let servers open a database that was held back.

    Raises:
        BackupError: psql is missing or fails.
    """
    undo = f"UPDATE {_VERSION_TABLE} SET version_num = replace(version_num, '{UNSETTLED} ', '')"  # noqa: S608 - as above
    _run("psql", target, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--command={undo}")


def marking(revision: str) -> str:
    """Return the SQL that gives the database this revision."""
    return f"UPDATE {_VERSION_TABLE} SET version_num = '{revision}';"  # noqa: S608 - names of ours


def environment_of(target: PostgresTarget, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which PostgreSQL's tools find this database.

    What else was in ours stays out: a frozen program's search path for libraries is not theirs.
    """
    url, arguments = target.url, target.connect_args
    said: dict[str, object] = {
        "PGHOST": url.host,
        "PGPORT": url.port,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGCONNECT_TIMEOUT": int(float(str(arguments.get("timeout", 10)))),
    }
    tls = dict(parse_qsl(urlsplit(str(arguments.get("dsn", ""))).query))
    said |= {variable: tls.get(name) for name, variable in _TLS.items()}
    kept = {name: given[name] for name in _KEPT if name in given}
    return kept | {name: str(value) for name, value in said.items() if value is not None}


def _refuse_an_empty_one(target: PostgresTarget) -> None:
    asked = f"SELECT to_regclass('{_VERSION_TABLE}') IS NOT NULL"
    if (
        _run("psql", target, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={asked}").strip()
        != "t"
    ):
        raise BackupError("there is no database yet: it has no tables of ours")


def _run(tool: str, target: PostgresTarget, *words: str) -> str:
    program = shutil.which(tool)
    if program is None:
        raise BackupError(
            f"the database is PostgreSQL and {tool} is not on this host: install PostgreSQL's client, "
            "or copy the database where it runs (pg_dump --format=custom)"
        )
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own tools, words of ours
        [program, *words],
        env=environment_of(target, os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip() or f"it ended with {done.returncode}"
        if "lock timeout" in said:
            said += "; somebody else uses these tables: end that session (SELECT * FROM pg_stat_activity), then try again"
        raise BackupError(f"{tool} failed, the database is as it was: {said}")
    return done.stdout
