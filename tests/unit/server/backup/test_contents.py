"""Entries of a backup, and what a hand-made one may try."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import pytest

from ct_ops_server.backup.contents import (
    About,
    ContentsWriter,
    is_name,
    parse_about,
    read_contents,
)
from ct_ops_server.backup.errors import DamagedError, NewerBackupError

ABOUT = About(1, "1.0", "sqlite", "0008", "id", {"agents": 3}, 7, "00" * 32, ("database",))


class Plain(BytesIO):
    """An envelope without encryption."""

    def read_to_end(self) -> None:
        assert self.read() == b""


def read(content: bytes) -> dict[str, bytes]:
    found: dict[str, BytesIO] = {}

    @contextmanager
    def place(name: str) -> Iterator[BytesIO]:
        yield found.setdefault(name, BytesIO())

    read_contents(Plain(content), place=place)
    return {name: entry.getvalue() for name, entry in found.items()}


def written(*entries: tuple[str, bytes]) -> bytes:
    sink = BytesIO()
    writer = ContentsWriter(sink)
    for name, data in entries:
        writer.add(name, BytesIO(data), len(data))
    writer.finish()
    return sink.getvalue()


def test_entries_come_back_as_they_were() -> None:
    """Also an empty one."""
    entries = {"about": ABOUT.to_json(), "database": b"x" * 600_000, "data/a.crt": b""}

    assert entries == read(written(*entries.items()))
    assert ABOUT == parse_about(entries["about"])


@pytest.mark.parametrize(
    "name", ["data/../secret", "/etc/passwd", "data//x", "data/.hidden", "..", "", "a\nb"]
)
def test_a_name_that_leads_elsewhere_is_no_name(name: str) -> None:
    """Whoever has the passphrase writes authentic entries, and may have meant harm."""
    assert not is_name(name)
    with pytest.raises(DamagedError):
        read(written(("about", b"{}"), (name, b"")))


def test_an_entry_that_comes_twice_or_before_the_description_is_refused() -> None:
    """The second would be what is used, the first what was looked at."""
    with pytest.raises(DamagedError):
        read(written(("about", b"1"), ("secret", b"2"), ("secret", b"3")))
    with pytest.raises(DamagedError):
        read(written(("secret", b"2"), ("about", b"1")))


def test_a_digest_that_does_not_fit_its_entry_is_noticed() -> None:
    """The digests are what a drill has compared."""
    content = written(("about", b"1"), ("secret", b"2"))
    with pytest.raises(DamagedError):
        read(content.replace(b'"size": 1}1', b'"size": 1}9'))


def test_an_entry_that_promises_more_than_there_is_ends_as_cut_off() -> None:
    """Nothing waits, and nothing is reserved for it."""
    label = json.dumps({"name": "about", "size": 1 << 60}).encode()
    with pytest.raises(DamagedError):
        read(struct.pack(">I", len(label)) + label + b"x")


def test_a_description_of_a_newer_form_is_named() -> None:
    """It is no damage."""
    text = ABOUT.to_json().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(NewerBackupError):
        parse_about(text)


def test_a_file_that_shrinks_while_it_is_read_is_no_entry() -> None:
    """Its label has told its size already."""
    with pytest.raises(OSError, match="shorter"):
        ContentsWriter(BytesIO()).add("secret", BytesIO(b"ab"), 3)
