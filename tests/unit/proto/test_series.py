"""The canonical text of a series: one spelling for each, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.series import SeriesError, parse_series, series_text

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z0-9_]{1,8}){1,3}", fullmatch=True)
labels = st.dictionaries(
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), st.text(max_size=40), max_size=5
)


@given(name=names, labelled=labels)
def test_what_was_written_is_read(name: str, labelled: dict[str, str]) -> None:
    """Whatever the values of the labels are."""
    assert parse_series(series_text(name, labelled)) == (name, labelled)


def test_labels_are_sorted_so_that_a_series_has_one_spelling() -> None:
    """Whoever resends says the same."""
    assert series_text("disk.used_bytes", {"type": "ext4", "mount": "/"}) == (
        'disk.used_bytes{mount="/",type="ext4"}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "memory",
        "Memory.total",
        "memory.total{}",
        'disk.used{b="1",a="2"}',
        'disk.used{a="1",a="1"}',
        'disk.used{a="1",}',
        'disk.used{a="1"',
        "disk.used{a=1}",
        'disk.used{a="\\x"}',
        'disk.used{a="1"}x',
        "disk.used{" + 'a="' + "x" * 2000 + '"}',
    ],
)
def test_any_other_text_is_no_series(text: str) -> None:
    """Also another spelling of one."""
    with pytest.raises(SeriesError):
        parse_series(text)


@pytest.mark.parametrize(("name", "label"), [("memory", "a"), ("a.b-c", "a"), ("a.b", "A"), ("a.b", "1")])
def test_an_author_is_told_which_name_is_not_allowed(name: str, label: str) -> None:
    """The text names it."""
    with pytest.raises(SeriesError, match="lower-case"):
        series_text(name, {label: "x"})
