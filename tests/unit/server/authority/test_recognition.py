"""What ``ca recognise`` takes, and what it refuses because it would be of no use or do harm later."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from ct_ops_server.authority.recognition import NotRecognisedError, recognisable
from own_authority import OwnCa, make_ca, with_negative_serial, with_unreadable_name


@pytest.fixture(scope="module")
def below() -> OwnCa:
    """An intermediate, with its root."""
    return make_ca("Their Agents", above=make_ca("Their Root"))


def alone(ca: OwnCa) -> str:
    return replace(ca, above=()).pem


def test_one_ca_is_taken_with_those_above_it(below: OwnCa) -> None:
    """In any order; the lowest one is what signed leaves."""
    root = below.above[0]
    shuffled = alone(replace(below, certificate=root)) + alone(below)

    assert (below.certificate, root) == recognisable(below.pem, [])
    assert (below.certificate, root) == recognisable(shuffled, [])
    assert (root,) == recognisable(alone(replace(below, certificate=root)), [])


def test_an_intermediate_needs_its_root_in_the_file_or_known(below: OwnCa) -> None:
    """No handshake believes it otherwise, so it would prove nobody's key."""
    with pytest.raises(
        NotRecognisedError, match=r"CN=Their Agents is signed by CN=Their Root, which is neither"
    ):
        recognisable(alone(below), [make_ca("Stranger").certificate])

    assert (below.certificate, *below.above) == recognisable(alone(below), below.above)


def test_attack_a_whole_trust_store_is_refused_with_the_number_of_its_cas(below: OwnCa) -> None:
    """Every CA of the world would prove keys of agents."""
    store = below.pem + "".join(make_ca(f"Public Root {number}").pem for number in range(3))
    with pytest.raises(NotRecognisedError, match="holds 4 CAs that have nothing to do with each other"):
        recognisable(store, [])


def test_a_certificate_that_is_there_twice_is_one(below: OwnCa) -> None:
    """Files are put together by hand; a root that was renewed stands beside the one before."""
    root = make_ca("Their Root")
    renewed = make_ca("Their Root", key=root.key, days=(-1, 7300))

    assert (below.certificate, *below.above) == recognisable(below.pem * 2, [])
    assert (root.certificate,) == recognisable(root.pem + renewed.pem, [])
    with pytest.raises(NotRecognisedError, match="holds 2 CAs"):
        recognisable(root.pem + renewed.pem + below.pem, [])


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize(
    ("pem", "sentence"),
    [
        ("hush", "holds no certificate in PEM form"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds no certificate in PEM form",
        ),
        (make_ca("No CA", is_ca=False).pem, "CN=No CA is no CA's certificate"),
        (make_ca("Old", is_ca=None).pem, "CN=Old is no CA's certificate"),
        (with_negative_serial(make_ca("Negative")), "its serial number is not positive"),
        (with_unreadable_name(make_ca("Odd")), "certificate 1 of the file cannot be read"),
        (
            make_ca("Sound").pem + with_unreadable_name(make_ca("Odd")),
            "certificate 2 of the file cannot be read",
        ),
    ],
    ids=[
        "no pem",
        "damaged",
        "a leaf",
        "no constraints",
        "negative serial",
        "unreadable name",
        "one unreadable name",
    ],
)
def test_what_would_be_found_out_later_is_refused_now(pem: str, sentence: str) -> None:
    """With the reason and what to name instead."""
    with pytest.raises(NotRecognisedError, match=sentence):
        recognisable(pem, [])


def test_an_ended_ca_is_recognised() -> None:
    """What its leaves prove is a key, at any time."""
    ended = make_ca("Ended", days=(-9, -1))

    assert (ended.certificate,) == recognisable(ended.pem, [])
    assert isinstance(ended.certificate, x509.Certificate)
