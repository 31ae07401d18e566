"""A chunk of a scan as it comes from a host, whatever that host sends."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.edge.uploads import chunk_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
_text = st.text(st.characters(codec="utf-8"), max_size=400)
_packages = st.builds(
    wire.SoftwarePackage,
    name=_text,
    version=_text,
    architecture=_text,
    publisher=_text,
    install_date_unix=st.integers(-(2**63), 2**63 - 1),
)
_chunks = st.builds(
    wire.SoftwareInventoryChunk,
    scan_id=_text,
    source=_text,
    chunk_index=st.integers(-(2**31), 2**31 - 1),
    packages=st.lists(_packages, max_size=3),
    attempt=st.integers(0, 2**32 - 1),
)


@given(_chunks)
def test_whatever_a_host_sends_is_storable_and_harmless_in_a_terminal(
    message: wire.SoftwareInventoryChunk,
) -> None:
    """No NUL, nothing a terminal obeys, nothing too long, no absurd time (rule 15)."""
    chunk = chunk_of(message, NOW)

    assert chunk.attempt < 2**31
    for package in chunk.packages:
        texts = (package.source, package.name, package.version, package.architecture, package.publisher)
        assert package.name
        assert all(text.isprintable() and len(text) <= 255 for text in texts)
        assert 0 <= package.installed_at_s <= NOW.timestamp() + 86_400


def test_an_ordinary_package_is_what_it_was() -> None:
    """Field by field."""
    sent = wire.SoftwarePackage(name="bash", version="1:5.2~rc-1", architecture="amd64", publisher="Debian")
    (kept,) = chunk_of(wire.SoftwareInventoryChunk(source="dpkg", packages=[sent]), NOW).packages

    assert ("dpkg", "bash", "1:5.2~rc-1", "amd64", "Debian", 0) == (
        kept.source,
        kept.name,
        kept.version,
        kept.architecture,
        kept.publisher,
        kept.installed_at_s,
    )
