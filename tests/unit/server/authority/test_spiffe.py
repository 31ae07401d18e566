"""An agent's name has one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.authority.spiffe import SpiffeName, format_uri, parse_uri

_IDS = st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z")


@given(installation=_IDS, agent=_IDS)
def test_a_name_comes_back_from_its_uri(installation: str, agent: str) -> None:
    """Formatting and parsing are inverse."""
    name = SpiffeName(installation, agent)

    assert name == parse_uri(format_uri(name))


@pytest.mark.parametrize("part", ["", "a/b", "a b", "a%2f", "ä", "a\n", "x" * 65])
def test_an_id_that_would_need_escaping_is_refused(part: str) -> None:
    """An id that could be read as something else never becomes part of a name."""
    with pytest.raises(ValueError, match="SPIFFE"):
        format_uri(SpiffeName("installation", part))
    with pytest.raises(ValueError, match="SPIFFE"):
        format_uri(SpiffeName(part, "agent"))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://other/org/i/agent/a",
        "spiffe://ct-ops/org/i/agent/",
        "spiffe://ct-ops/org/i/agent/a/b",
        "spiffe://ct-ops/org/i/agent/a?x",
        "SPIFFE://ct-ops/org/i/agent/a",
        "spiffe://ct-ops/org/i/agent/a\n",
        "https://ct-ops/org/i/agent/a",
    ],
)
def test_another_shape_is_no_name(uri: str) -> None:
    """Only the one shape is a name; nothing is normalised."""
    assert parse_uri(uri) is None
