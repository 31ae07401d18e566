"""Our agent proves its key under any roots, and what it signs is of no use to who is in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_world import World, eventually, living, new_world
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.errors import EnrolmentRefusedError
from ct_ops_agent.identity.keystore import load_key_pair
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_proto.enrolment_token import EnrolmentToken, parse_token
from ct_ops_server.config.schema import Settings
from fakes.conforming_server import Authority, make_authority, make_server_certificate
from fakes.hostile_relay import hostile_relay
from real_server import settings_for

LOST = ("agent_state.json", "agent_cert.pem", "agent_ca.pem")


@dataclass(frozen=True)
class Organisation:
    """An authority that signs the certificates of several servers, and is one of many roots."""

    authority: Authority
    bundle: Path
    folder: Path

    def settings(self) -> Settings:
        """Return settings of a server at 127.0.0.1 with a certificate of this organisation."""
        certificate, key = make_server_certificate(self.authority, ("127.0.0.1",))
        cert_file, key_file = self.folder / "tls.crt", self.folder / "tls.key"
        cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key_file.chmod(0o600)
        ca_file = self.folder / "tls-ca.crt"
        ca_file.write_text(self.authority.pem)
        return replace(
            settings_for(self.folder / "server"), tls_cert=cert_file, tls_key=key_file, tls_ca=ca_file
        )

    def certificate_of_another_server(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Return a certificate for "localhost": good, of the same authority, and not our server's."""
        return make_server_certificate(self.authority, ("localhost",))


@pytest.fixture
def organisation(tmp_path: Path) -> Organisation:
    authority = make_authority("Conforming Server CA")
    bundle = tmp_path / "bundle.pem"
    others = [make_authority(f"Root {number}") for number in range(3)]
    bundle.write_text("".join(each.pem for each in (others[0], authority, *others[1:])))
    return Organisation(authority, bundle, tmp_path)


@asynccontextmanager
async def believing(
    organisation: Organisation, roots: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """Run a server of an organisation, and configure an agent that believes several roots."""
    async with new_world(organisation.folder, organisation.settings()) as world:
        if roots == "a bundle":
            world.config = replace(world.config, ca_cert_file=organisation.bundle)
        else:
            monkeypatch.setenv("SSL_CERT_FILE", str(organisation.bundle))
            world.config = replace(world.config, enrolment_token=without_hint(world.config))
        yield world


def without_hint(config: AgentConfig) -> EnrolmentToken:
    assert config.enrolment_token is not None
    return parse_token(config.enrolment_token.secret)


@pytest.mark.parametrize("roots", ["a bundle", "the system's"])
async def test_an_agent_that_believes_several_roots_gets_back_in_by_its_key(
    organisation: Organisation, roots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State and leaf are lost, there is no token, and nobody knows which root it was: the key is enough."""
    async with believing(organisation, roots, monkeypatch) as world:
        agent_id = await world.once(world.config)
        for name in LOST:
            (world.config.data_dir / name).unlink()

        assert agent_id == await world.once()


@pytest.mark.parametrize("roots", ["a bundle", "the system's"])
async def test_an_agent_that_believes_several_roots_rotates_its_key(
    organisation: Organisation, roots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost reply could be settled, so nothing stands in the way."""
    async with believing(organisation, roots, monkeypatch) as world:
        agent_id = await world.once(world.config)
        old, rotation = load_key_pair(world.config.data_dir), KeyRotation(world.config.data_dir)
        async with living(world.without_token) as agent:
            await eventually(lambda: agent.acknowledged >= 1, agent)
            rotation.request()
            await eventually(lambda: not rotation.is_requested, agent)

        assert old != load_key_pair(world.config.data_dir)
        assert agent_id == await world.once()


@pytest.mark.parametrize(
    ("names_itself", "proven", "reason"), [(False, False, "token_missing"), (True, True, "proof_invalid")]
)
async def test_attack_a_register_relayed_by_a_server_of_the_same_authority_proves_nothing(
    organisation: Organisation,
    names_itself: bool,  # noqa: FBT001  a column
    proven: bool,  # noqa: FBT001  a column
    reason: str,
) -> None:
    """The agent was sent to a hostile server that it has every reason to believe.

    When that one leaves the real server's word in the challenge, the agent does not sign at all; when it
    puts in its own, the signature is for it and for nobody else.
    """
    async with new_world(organisation.folder, organisation.settings()) as world:
        world.config = replace(world.config, ca_cert_file=organisation.bundle)
        await world.once(world.config)
        for name in LOST:
            (world.config.data_dir / name).unlink()
        certificate, key = organisation.certificate_of_another_server()
        async with hostile_relay(world.server.wire, certificate, key, names_itself=names_itself) as relay:
            with pytest.raises(EnrolmentRefusedError):
                await world.once(replace(world.without_token, address=f"localhost:{relay.port}"))

    assert [proven] == relay.proven
    assert [reason] == relay.reasons
