"""What is generated in the documentation is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from generated_docs import ROOT, SECTIONS, MarkerError, names_in, pages, rewritten

PAGES = list(pages())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_what_the_code_says(page: Path) -> None:
    """Run `make docs` when this fails."""
    text = page.read_text()

    assert rewritten(text) == text


def test_everything_that_can_be_generated_is_in_a_page() -> None:
    """A table that no page shows is a table that nobody reads; one that two pages show is one too many."""
    assert sorted(SECTIONS) == sorted(name for page in PAGES for name in names_in(page.read_text()))


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_what_is_generated_holds_in_its_place(name: str) -> None:
    """Nothing in it ends it early, and every row of a table has as many cells as its head."""
    text = SECTIONS[name]()

    assert [] == names_in(text)
    columns = {row.replace("\\|", "").count("|") for row in text.splitlines() if row.startswith("|")}
    assert len(columns) <= 1


SAMPLE = """# A page

<!-- generated: a -->
stale
<!-- end -->
By hand.

<!-- generated: b -->
<!-- end -->
"""


def test_only_what_stands_between_markers_is_rewritten() -> None:
    """All of it, and a second time changes nothing; what the text looks like to a regular expression is no matter."""
    sections = {"a": lambda: "| \\1 |\n", "b": lambda: "new"}

    page = rewritten(SAMPLE, sections)

    assert (
        page
        == """# A page

<!-- generated: a -->

| \\1 |

<!-- end -->
By hand.

<!-- generated: b -->

new

<!-- end -->
"""
    )
    assert rewritten(page, sections) == page


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<!-- generated: a -->\n", "<!-- generated: a --> has no <!-- end -->"),
        ("<!-- end -->\n", "out of place"),
        ("<!-- generated: a -->\n<!-- generated: b -->\n<!-- end -->\n", "generated: b --> is out of place"),
        ("<!-- generated: c -->\n<!-- end -->\n", "nothing generates c; there are: a, b"),
    ],
)
def test_markers_that_cannot_be_meant_are_named(page: str, problem: str) -> None:
    """Else a page would silently keep what is stale, or lose what is written by hand."""
    with pytest.raises(MarkerError, match=problem):
        rewritten(page, {"a": lambda: "", "b": lambda: ""})
