"""An installation whose settings and files an operator changes between two starts."""

from __future__ import annotations

import shutil
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ct_ops_server.authority.issuer import sha256_of
from ct_ops_server.authority.jwks import make_signing_key
from ct_ops_server.authority.life_cycle import Kind, Step
from ct_ops_server.authority.sealing import load_or_create_secret, seal
from ct_ops_server.config.pem import PemSource
from ct_ops_server.config.schema import Settings
from ct_ops_server.core import Core, open_core
from own_authority import OwnCa

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_BACKWARD = {Step.GO_BACK, Step.DISCARD}


@dataclass
class Install:
    """One node of it."""

    settings: Settings
    now: datetime = NOW

    @property
    def data_dir(self) -> Path:
        """Where its files are."""
        return self.settings.data_dir

    def name_ca(self, ca: OwnCa | None) -> None:
        """Have the settings name an agent CA, in files, or none."""
        cert = key = None
        if ca is not None:
            folder = self.data_dir.parent / "pki"
            ca.write(folder)
            cert, key = PemSource(folder / "ca.pem"), PemSource(folder / "ca.key")
        self.settings = replace(self.settings, agent_ca_cert=cert, agent_ca_key=key)

    def name_jwt(self, file: Path | None) -> None:
        """Have the settings name a file of the key of agent tokens."""
        self.settings = replace(self.settings, jwt_key_file=file)

    def jwt_file(self, name: str) -> Path:
        """Return a file outside the data directory with a new key in it, as an operator makes one."""
        file = self.data_dir.parent / name
        file.write_bytes(seal(make_signing_key().key, load_or_create_secret(self.settings.secret_file)))
        return file

    def files(self) -> set[str]:
        """Return the names of the key files in the data directory."""
        return {each.name for each in self.data_dir.iterdir() if each.name.startswith(("agent-ca", "jwt"))}

    def open(self) -> AbstractAsyncContextManager[Core]:
        """Start."""
        return open_core(self.settings, now=lambda: self.now)

    async def states(self, kind: Kind = Kind.CA) -> dict[str, str]:
        """Start; return what is known then, and its state."""
        async with self.open() as core:
            return await known(core, kind)

    async def rotate(self, *steps: Step, kind: Kind = Kind.CA, brought: OwnCa | None = None) -> None:
        """Take steps."""
        async with self.open() as core:
            for step in steps:
                await take(core, kind, step, brought if step is Step.PREPARE else None)

    def node(self, name: str) -> Install:
        """Return another node of the same database, without an agent CA."""
        data_dir = self.data_dir.parent / name
        data_dir.mkdir(mode=0o700)
        for file in self.data_dir.glob("audit*.*"):
            shutil.copy(file, data_dir)
        for name_of_file in ("secret", "jwt_key.pem"):
            shutil.copy(self.data_dir / name_of_file, data_dir)
        settings = replace(self.settings, data_dir=data_dir, secret_file=data_dir / "secret")
        return Install(settings, self.now)


async def known(core: Core, kind: Kind = Kind.CA) -> dict[str, str]:
    """Return what the database knows, oldest first, and its state."""
    stored = await core.store.trust.load()
    return {each.name: each.state.value for each in stored.keys[kind]}


async def take(core: Core, kind: Kind, step: Step, brought: OwnCa | None = None) -> None:
    """Take one step, and take it up."""
    desk = core.authority_desk(hint=lambda _: None)
    plan = await desk.preview(kind, back=step in _BACKWARD)
    pair = None if brought is None else (brought.pem, brought.key_pem)
    await desk.take(kind, step, version=plan.version, actor="test", force=True, brought=pair)
    core.trust.take_up(await core.keyring.read())


async def audited(core: Core) -> list[tuple[str, str]]:
    """Return what the audit log tells of keys: what was done, by whom."""
    entries = await core.store.audit.entries_after(0, limit=1_000)
    return [(each.action, each.actor) for each in entries if each.action.startswith(("ca.", "signing_key."))]


def name_of(ca: OwnCa) -> str:
    """Return what an agent CA is known by."""
    return sha256_of(ca.certificate).hex()
