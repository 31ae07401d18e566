"""Texts with a secret are sealed under the installation's secret, each for one owner."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.text_seal import PREFIX, SealError, TextSeal

SEAL = TextSeal(SealingSecret(Path("/srv/secret"), b"x" * 32))
OTHER = TextSeal(SealingSecret(Path("/srv/other"), b"y" * 32))


@given(st.text(max_size=200), st.text(max_size=20))
def test_a_sealed_text_opens_as_it_was(text: str, owner: str) -> None:
    """For its owner; and it shows nothing of itself."""
    sealed = SEAL.seal(text, bound_to=owner)

    assert text == SEAL.open(sealed, bound_to=owner)
    assert sealed.isascii()


def test_the_same_text_is_never_sealed_the_same() -> None:
    """Whoever reads the database cannot tell that two checks have one password."""
    assert SEAL.seal("hunter2", bound_to="a") != SEAL.seal("hunter2", bound_to="a")


def test_a_text_that_was_never_sealed_comes_back() -> None:
    """What has no secret lies open."""
    assert '{"a":1}' == SEAL.open('{"a":1}', bound_to="a")


@pytest.mark.parametrize("damaged", ["", "A", "AAAA", "é", "A" * 64])
def test_a_damaged_seal_says_what_to_do(damaged: str) -> None:
    """It names whose text it is and which secret was tried."""
    with pytest.raises(SealError, match=r"check c1.*/srv/secret"):
        SEAL.open(PREFIX + damaged, bound_to="check c1")


def test_another_secret_or_another_owner_does_not_open_it() -> None:
    """Moving a row's text to another check gives that check nothing."""
    sealed = SEAL.seal("hunter2", bound_to="a")

    for seal, owner in ((OTHER, "a"), (SEAL, "b")):
        with pytest.raises(SealError):
            seal.open(sealed, bound_to=owner)


def test_a_flipped_bit_is_noticed() -> None:
    """Sealed texts cannot be changed, only replaced."""
    sealed = SEAL.seal("hunter2", bound_to="a")
    flipped = sealed[:-4] + ("A" if sealed[-4] != "A" else "B") + sealed[-3:]

    with pytest.raises(SealError):
        SEAL.open(flipped, bound_to="a")
