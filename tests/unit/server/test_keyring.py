"""Which keys a start finds active, from what lies in files and what the database says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ct_ops_server.authority import sealing
from ct_ops_server.authority.issuer import sha256_of
from ct_ops_server.authority.life_cycle import Kind, TrustState
from ct_ops_server.authority.ports import Change, NewKey
from ct_ops_server.config.schema import Settings
from ct_ops_server.core import Core, open_core
from own_authority import make_ca, with_unreadable_name
from real_server import settings_for

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def made(data_dir: Path) -> Settings:
    """Return settings of a data directory that is there."""
    data_dir.mkdir(mode=0o700)
    return settings_for(data_dir)


async def steps(core: Core, count: int) -> None:
    """Take so many steps of a rotation of the agent CA."""
    desk = core.authority_desk(hint=lambda _: None)
    for _ in range(count):
        plan = await desk.preview(Kind.CA)
        await desk.take(Kind.CA, plan.plan.step, version=plan.version, actor="test", force=True)


async def opened(settings: Settings, *, take: int = 0) -> tuple[str, list[str]]:
    """Open an installation, take some steps; return who signed at the opening, and the states after."""
    async with open_core(settings, now=lambda: NOW) as core:
        signed = core.trust.current.authority.sha256.hex()
        await steps(core, take)
        stored = await core.store.trust.load()
        return signed, [each.state.value for each in stored.keys[Kind.CA]]


async def test_a_start_reads_the_key_of_agent_tokens_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it looks at the database until all is settled: checking an RSA key is slow."""
    settings, read = made(tmp_path / "server"), list[int]()
    parse = sealing.parse_key

    def counted(path: Path, pem: bytes, secret: sealing.SealingSecret) -> PrivateKeyTypes:
        key = parse(path, pem, secret)
        read.append(isinstance(key, rsa.RSAPrivateKey))
        return key

    monkeypatch.setattr(sealing, "parse_key", counted)
    counts = []
    for _ in range(2):
        await opened(settings)
        counts.append(sum(read))
        read.clear()

    assert [0, 1] == counts


async def test_nothing_is_made_twice(tmp_path: Path) -> None:
    """A second start finds what the first one made, and takes no step."""
    settings = made(tmp_path / "server")
    first, states = await opened(settings)

    assert ["active"] == states
    assert (first, states) == await opened(settings)


async def test_a_file_that_a_rotation_has_gone_past_is_erased_and_not_believed(tmp_path: Path) -> None:
    """Also when somebody puts it back, and when its key was erased and its certificate not yet."""
    settings = made(tmp_path / "server")
    first, _ = await opened(settings)
    kept = {name: (settings.data_dir / name).read_bytes() for name in ("agent-ca.crt", "agent-ca.key")}
    _, states = await opened(settings, take=3)
    second, _ = await opened(settings)
    for half in (kept, {"agent-ca.crt": kept["agent-ca.crt"]}):
        for name, content in half.items():
            (settings.data_dir / name).write_bytes(content)
        again, after = await opened(settings)
        assert (second, states) == (again, after)
        assert not list(settings.data_dir.glob("agent-ca.*"))

    assert first != second
    assert ["retired", "active"] == states


@pytest.mark.parametrize("kind", list(Kind))
async def test_private_keys_are_in_the_database_from_prepare_to_retire_only(
    tmp_path: Path, kind: Kind
) -> None:
    """Sealed; before the first rotation there is none."""
    settings = made(tmp_path / "server")
    seen = []
    async with open_core(settings, now=lambda: NOW) as core:
        desk = core.authority_desk(hint=lambda _: None)
        for _ in range(4):
            stored = await core.store.trust.load()
            keys = [each.sealed_key for each in stored.keys[kind]]
            seen.append(sum(each is not None for each in keys))
            assert all(each is None or "BEGIN ENCRYPTED" in each for each in keys)
            assert stored.active(kind) is not None
            assert TrustState.ACTIVE in {each.state for each in stored.keys[kind]}
            plan = await desk.preview(kind)
            await desk.take(kind, plan.plan.step, version=plan.version, actor="test", force=True)
            core.trust.take_up(await core.keyring.read())

    assert [0, 2, 2, 1] == seen


async def test_a_ca_whose_name_cannot_be_read_breaks_no_look(tmp_path: Path) -> None:
    """A row of a time when such a one was recognised."""
    pem = with_unreadable_name(make_ca("Odd"))
    name = sha256_of(x509.load_pem_x509_certificate(pem.encode())).hex()
    async with open_core(made(tmp_path / "server"), now=lambda: NOW) as core:
        await core.store.trust.change(Change(Kind.CA, new=NewKey(name, pem, TrustState.RETIRED)))
        core.trust.take_up(await core.keyring.read())
        overview = await core.authority_desk(hint=lambda _: None).overview()

    assert ["CN=CT-Ops Agent CA", "a certificate whose name cannot be read"] == [
        each.subject for each in overview.authorities
    ]
