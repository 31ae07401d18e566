"""What a driver's error means: the one place that knows the error codes of both databases. Pure.

    UNAVAILABLE   the database does not answer, or cannot write at all: nobody's write is to blame
    CONFLICT      another transaction was in the way: the same writes may well succeed now
    REFUSED       the database answered, and the answer is no: some write of the group is to blame

Whatever is not recognised is REFUSED: a group is then taken apart and the writes that work are kept,
which costs time but never loses the others' writes (rule 15). The text of a refusal names the code and
the class of the driver's error, never its words: they quote values, and those come from agents.
"""

from __future__ import annotations

import sqlite3
from enum import Enum, auto

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ct_ops_server.fleet.ports import StoreError, StoreUnavailableError, WriteRefusedError

# Appendix A of the PostgreSQL manual, by class: 08 connection, 25 the server is a read-only standby,
# 28 login, 3D no such database, 53 resources (disk full, too many connections), 57 operator
# intervention (shutdown, still starting), 58 system error, XX internal error (corrupted data).
_POSTGRES_UNAVAILABLE = frozenset({"08", "25", "28", "3D", "53", "57", "58", "XX"})
_POSTGRES_CONFLICT = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock not available."""

_SQLITE_CONFLICT = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
_SQLITE_DUPLICATE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_POSTGRES_DUPLICATE = "23505"
_SQLITE_PRIMARY_CODE = 0xFF
"""The low byte of an extended result code."""


class Fault(Enum):
    """What follows from an error."""

    UNAVAILABLE = auto()
    CONFLICT = auto()
    REFUSED = auto()


class OvertakenError(Exception):
    """Another transaction has changed what this one had read: it is tried again."""


def fault_of(error: Exception) -> Fault:
    """Return what ``error`` means for the writes of its group."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Fault.UNAVAILABLE
    if isinstance(error, OvertakenError):
        return Fault.CONFLICT
    cause = _driver_error(error)
    if isinstance(cause, StoreUnavailableError | OSError | TimeoutError | PoolTimeoutError):
        return Fault.UNAVAILABLE
    if isinstance(cause, sqlite3.Error):
        return _sqlite_fault(cause)
    if (state := _sqlstate(cause)) is not None:
        return _postgres_fault(state)
    return Fault.UNAVAILABLE if _lost_connection(cause) else Fault.REFUSED


def is_duplicate(error: IntegrityError) -> bool:
    """Tell whether a row with the same key was there already."""
    cause = _driver_error(error)
    return _sqlstate(cause) == _POSTGRES_DUPLICATE or (
        getattr(cause, "sqlite_errorcode", None) in _SQLITE_DUPLICATE
    )


def store_error(error: Exception) -> StoreError:
    """Return the error a caller of the store gets for a driver's error."""
    if isinstance(error, StoreError):
        return error
    if fault_of(error) is Fault.REFUSED:
        return WriteRefusedError(f"the database refuses this write ({describe(error)})")
    # What an outage says comes from the system or the database and tells an operator what to mend.
    text = " ".join(str(_driver_error(error)).split())
    return StoreUnavailableError(
        f"the database does not answer ({describe(error)}): {text}".removesuffix(": ")
    )


def is_from_driver(error: Exception) -> bool:
    """Tell an error of the database from one that a command raised because it wanted to.

    The last two are how sqlite3 says that a value does not fit: an integer of 2^63, half a character.
    """
    return isinstance(error, SQLAlchemyError | OverflowError | UnicodeError)


def describe(error: Exception) -> str:
    """Name an error by class and code; without its text, which may hold what an agent sent."""
    cause = _driver_error(error)
    code = _sqlstate(cause) or getattr(cause, "sqlite_errorname", None)
    return f"{type(cause).__name__} {code}" if code else type(cause).__name__


def _driver_error(error: Exception) -> BaseException:
    """Return what the driver itself raised, under what SQLAlchemy and its dialect made of it."""
    cause: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__ or error.orig
    return cause


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def _postgres_fault(state: str) -> Fault:
    if state in _POSTGRES_CONFLICT:
        return Fault.CONFLICT
    return Fault.UNAVAILABLE if state[:2] in _POSTGRES_UNAVAILABLE else Fault.REFUSED


def _sqlite_fault(error: sqlite3.Error) -> Fault:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by the driver, not by SQLite: its connection is closed.
        return Fault.UNAVAILABLE if isinstance(error, sqlite3.OperationalError) else Fault.REFUSED
    if code & _SQLITE_PRIMARY_CODE in _SQLITE_CONFLICT:
        return Fault.CONFLICT
    return Fault.UNAVAILABLE if code & _SQLITE_PRIMARY_CODE in _SQLITE_UNAVAILABLE else Fault.REFUSED


def _lost_connection(error: BaseException) -> bool:
    """Tell asyncpg's own complaints about a connection that is gone: they carry no code."""
    return type(error).__name__ == "InterfaceError" and "connection is closed" in str(error)
