"""Whoever reads about a refusal is told what to do: the operator here, the host's people in the refusal itself."""

from __future__ import annotations

import pytest

from ct_ops_server.enrolment.model import Refusal
from ct_ops_server.enrolment.remedies import remedies_markdown, remedy
from ct_ops_server.enrolment.service import refusal


@pytest.mark.parametrize("reason", list(Refusal))
def test_every_reason_has_something_to_do_and_a_sentence_for_the_host(reason: Refusal) -> None:
    """And stands on the page for operators."""
    assert f"| `{reason}` | {remedy(reason)} |" in remedies_markdown().splitlines()
    assert len(str(refusal(reason))) > 20
