"""The documentation's links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[3]

_CODE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[^\n]*$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_INLINE_LINK = re.compile(r"\]\(\s*<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*<?(?P<target>[^\s>]+)>?", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_HEADING = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*$", re.MULTILINE)


def pages(folder: Path) -> Iterator[Path]:
    """Yield the Markdown files of a folder and below, leaving out what tools keep (`.venv`, `.git`, caches)."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from pages(path)
        elif path.suffix == ".md":
            yield path


def links(markdown: str) -> list[str]:
    """Return the targets of all links that lead nowhere outside."""
    prose = _CODE.sub("", markdown)
    targets = [match["target"] for kind in (_INLINE_LINK, _REFERENCE) for match in kind.finditer(prose)]
    return [target for target in targets if not _ELSEWHERE.match(target)]


def anchors(markdown: str) -> set[str]:
    """Return what a fragment may name: headings, as renderers spell them."""
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    headings = (match["text"].lower().replace("`", "") for match in _HEADING.finditer(prose))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    return [link for link in links(page.read_text()) if not _resolves(page, link)]


def _resolves(page: Path, link: str) -> bool:
    name, _, fragment = link.partition("#")
    target = (page.parent / unquote(name)).resolve() if name else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not fragment or (target.suffix == ".md" and fragment in anchors(target.read_text()))


PAGES = list(pages(ROOT))


def test_there_are_pages() -> None:
    """A search that finds nothing would prove nothing."""
    assert {ROOT / "README.md", ROOT / "docs/glossary.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_of_the_repository(page: Path) -> None:
    """Also the part behind `#`, which has to be a heading there."""
    assert [] == broken(page)


def test_every_page_of_the_documentation_can_be_reached_from_the_readme() -> None:
    """A page that nothing links to is a page that nobody reads."""
    seen, due = set[Path](), [ROOT / "README.md"]
    while due:
        page = due.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.is_dir():
            due += sorted(page.glob("*.md"))
        elif page.suffix == ".md":
            due += [(page.parent / link.partition("#")[0]).resolve() for link in links(page.read_text())]

    assert set() == {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - seen


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[a](b.md)", ["b.md"]),
        ("[a](b.md#c) and [d](<e%20f.md>)", ["b.md#c", "e%20f.md"]),
        ('[a](b.md "with a title")', ["b.md"]),
        ("![picture](a.png)", ["a.png"]),
        ("[a]: b.md\n", ["b.md"]),
        ("[a](https://example.com/b.md) <mailto:c@example.com>", []),
        ("`[a](b.md)` is how to write it", []),
        ("```\n[a](b.md)\n```\n[c](d.md)", ["d.md"]),
    ],
)
def test_links_are_found_where_they_are_meant(markdown: str, expected: list[str]) -> None:
    """In prose and references, not in code, not those that lead outside."""
    assert expected == links(markdown)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """Of a page with links of all sorts only those that lead nowhere, or out of the repository."""
    page = ROOT / "docs" / "page.md"

    assert _resolves(page, "glossary.md#overloaded-words")
    assert not _resolves(page, "glossary.md#no-such-heading")
    assert not _resolves(page, "no-such-page.md")
    assert not _resolves(page, str(tmp_path))
