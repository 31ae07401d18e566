"""What a Register is given, over the weeks of an agent's life; the store is the one in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.authority import files
from ct_ops_server.authority.agent_token import AgentTokenClaims, Audience, TokenSigner, TokenVerifier
from ct_ops_server.authority.ca import load_or_create_authority
from ct_ops_server.authority.jwks import load_or_create_signing_key
from ct_ops_server.authority.sealing import load_or_create_secret
from ct_ops_server.edge.convert import application_of
from ct_ops_server.enrolment.model import Application, EnrolmentRefusedError, Refusal, TokenTerms
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_store import MemoryStore
from wire_client import Host

START = datetime(2030, 1, 2, tzinfo=UTC)
TOKEN = "tok_" + "a" * 32


@dataclass
class Desk:
    """Enrolment with everything that the test may move."""

    store: MemoryStore
    enrolment: Enrolment
    verifier: TokenVerifier
    clock: list[datetime]

    def later(self, days: float = 0, hours: float = 0) -> None:
        """Let time pass."""
        self.clock[0] += timedelta(days=days, hours=hours)

    def claims(self, token: str) -> AgentTokenClaims:
        """Return what an agent token says."""
        return self.verifier.verify(token, now=self.clock[0])


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    data_dir = tmp_path / "server"
    files.open_private_directory(data_dir)
    secret = load_or_create_secret(data_dir / "secret")
    key = load_or_create_signing_key(
        configured=None, existing=tmp_path / "none", data_dir=data_dir, secret=secret
    )
    clock, ids = [START], count(1)
    store = MemoryStore(lambda: clock[0])
    enrolment = Enrolment(
        store,
        authority=load_or_create_authority(data_dir, secret, now=START),
        signer=TokenSigner(key),
        installation_id="installation",
        now=lambda: clock[0],
        new_agent_id=lambda: f"a{next(ids)}",
    )
    await store.create_token("t1", secret_digest(TOKEN), TokenTerms("label", auto_approve=True), actor="test")
    return Desk(store, enrolment, TokenVerifier([key.public_key]), clock)


def application(host: Host, token: str = TOKEN, *, proven: bool = False) -> Application:
    return application_of(
        host.request(token),
        address="192.0.2.1",
        is_proven=lambda _key: proven,
        leaf_agent_id=lambda _key: None,
    )


async def test_a_new_host_gets_a_leaf_and_a_token_for_a_day(desk: Desk) -> None:
    """Ninety days and twenty-four hours, both for the same id."""
    given = await desk.enrolment.register(application(Host("web-1")))
    claims = desk.claims(given.agent_token)

    assert (AgentStatus.ACTIVE, "a1") == (given.status, given.agent_id)
    assert START + timedelta(days=90) == given.leaf_not_after
    assert (Audience.AGENT, "a1") == (claims.audience, claims.agent_id)
    assert START + timedelta(hours=24) == claims.expires_at


async def test_attack_a_replayed_csr_gets_the_stored_leaf_and_ten_minutes(desk: Desk) -> None:
    """No new leaf, and a token that is good only beside the stored one."""
    host = Host("web-1")
    first = await desk.enrolment.register(application(host))
    replayed = await desk.enrolment.register(application(host))
    claims = desk.claims(replayed.agent_token)

    assert first.leaf_pem == replayed.leaf_pem
    assert Audience.BOOTSTRAP is claims.audience
    assert START + timedelta(minutes=10) == claims.expires_at
    assert claims.leaf_sha256 is not None
    assert hashlib.sha256().digest_size == len(claims.leaf_sha256)


async def test_an_unproven_register_signs_at_most_once_an_hour(desk: Desk) -> None:
    """Not even for a leaf that is close to its end."""
    host = Host("web-1")
    first = await desk.enrolment.register(application(host))
    desk.later(days=80)
    second = await desk.enrolment.register(application(host))
    desk.later(hours=0.9)
    third = await desk.enrolment.register(application(host))

    assert first.leaf_pem != second.leaf_pem
    assert second.leaf_pem == third.leaf_pem


async def test_a_proven_register_keeps_a_leaf_for_half_its_life(desk: Desk) -> None:
    """Then it gets a new one, and needs no enrolment token for it."""
    host = Host("web-1")
    first = await desk.enrolment.register(application(host))
    desk.later(days=44)
    young = await desk.enrolment.register(application(host, "", proven=True))
    desk.later(days=2)
    old = await desk.enrolment.register(application(host, "", proven=True))

    assert first.leaf_pem == young.leaf_pem
    assert first.leaf_pem != old.leaf_pem
    assert Audience.AGENT is desk.claims(old.agent_token).audience


async def test_a_leaf_of_the_future_is_replaced_when_its_key_is_proven(desk: Desk) -> None:
    """A server whose clock was set right does not accept it, so it does not hand it out again either."""
    host = Host("web-1")
    desk.later(hours=9)
    first = await desk.enrolment.register(application(host))
    desk.later(hours=-9)
    second = await desk.enrolment.register(application(host, "", proven=True))

    assert first.leaf_pem != second.leaf_pem
    assert second.leaf_not_after == START + timedelta(days=90)


async def test_a_leaf_of_the_future_does_not_keep_an_unproven_register_from_a_leaf_that_is_valid(
    desk: Desk,
) -> None:
    """The server's clock was nine years ahead: an hour after that would be in nine years."""
    host = Host("web-1")
    desk.later(days=3000)
    first = await desk.enrolment.register(application(host))
    desk.later(days=-3000)
    second = await desk.enrolment.register(application(host))
    third = await desk.enrolment.register(application(host))

    assert second.leaf_not_after == START + timedelta(days=90)
    assert first.leaf_pem != second.leaf_pem == third.leaf_pem


async def test_coming_back_spends_no_use_of_the_token(desk: Desk) -> None:
    """A use admits a host once, however often it registers."""
    host = Host("web-1")
    for proven in (False, False, True):
        await desk.enrolment.register(application(host, proven=proven))

    assert [1] == [token.uses for token in await desk.store.list_tokens()]


async def test_a_leaf_is_renewed_only_for_the_key_and_id_that_belong_together(desk: Desk) -> None:
    """Neither a foreign id nor an unknown key gets one."""
    host = Host("web-1")
    given = await desk.enrolment.register(application(host))
    key_id = application(host).key_id

    assert await desk.enrolment.renew("another", key_id) is None
    assert await desk.enrolment.renew(given.agent_id, "0" * 64) is None
    assert await desk.enrolment.renew(given.agent_id, key_id) is not None


async def test_a_revoked_key_is_refused_with_a_sentence(desk: Desk) -> None:
    """Proven or not, with a good token or none."""
    host = Host("web-1")
    given = await desk.enrolment.register(application(host))
    await desk.store.change_status(
        given.agent_id,
        allowed_from=frozenset({AgentStatus.ACTIVE}),
        to=AgentStatus.REVOKED,
        actor="test",
        reason="",
    )
    for attempt in (application(host), application(host, "", proven=True)):
        with pytest.raises(EnrolmentRefusedError, match="revoked by an operator") as caught:
            await desk.enrolment.register(attempt)
        assert Refusal.REVOKED is caught.value.reason
    assert await desk.enrolment.renew(given.agent_id, application(host).key_id) is None
