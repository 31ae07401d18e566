"""The rpm's recipe: every word filled, and the same files as the Debian package's tree."""

from __future__ import annotations

from pathlib import Path

from make_rpm import words
from programs import AGENT, PROGRAMS, filled
from tree import Built

RECIPE = (Path(__file__).parents[3] / "packaging/rpm/package.spec").read_text()
BUILT = Built("1.2.3rc1", "amd64", "2.30", 1_700_000_000)


def test_the_recipe_is_filled_for_every_program() -> None:
    """With its version as rpm orders it, and the C library it was built against."""
    for program in PROGRAMS.values():
        said = filled(RECIPE, words(program, BUILT))

        assert f"\nName: {program.name}\n" in said
        assert "\nVersion: 1.2.3~rc1\n" in said
        assert "\nRequires: glibc >= 2.30\n" in said


def test_an_operators_configuration_is_kept_and_closed_to_others() -> None:
    """An upgrade lays the new sample beside it."""
    said = filled(RECIPE, words(AGENT, BUILT))

    assert "\n%config(noreplace) %attr(0640,root,ct-ops) /etc/ct-ops/agent.toml\n" in said
    assert "/var/lib" not in said
