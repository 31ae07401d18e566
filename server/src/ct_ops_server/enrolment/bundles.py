"""Install bundles, from what was asked for to the files: the token, the artefact, the order of things.

Whatever can be found wrong is found before a token is made; what goes wrong after that takes the token back, for
nobody must be left with a live invitation that is in no bundle.

    BundleRefusedError
    ├── NoArtefactError      the shelf has nothing for that host
    └── TokenUnusableError   the token that was given admits nobody
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_proto.enrolment_token import TokenIncompleteError, parse_token
from ct_ops_server.enrolment.model import TokenRecord, TokenState, TokenTerms
from ct_ops_server.enrolment.tokens import TokenDesk
from ct_ops_server.releases.artefact import Form
from ct_ops_server.releases.bundle import (
    BundleParts,
    BundleToken,
    bundle_entries,
    date_of,
    folder_of,
    signed,
)
from ct_ops_server.releases.install_script import agent_address
from ct_ops_server.releases.packing import Packing, pack
from ct_ops_server.releases.shelf import Found, Shelf

_TAKEN_BACK = "the install bundle that it was made for could not be built"


class BundleRefusedError(Exception):
    """A bundle that cannot be built. ``str()`` is a sentence for the operator."""


class NoArtefactError(BundleRefusedError):
    """The shelf has nothing for that host."""


class TokenUnusableError(BundleRefusedError):
    """The token that was given admits nobody."""


@dataclass(frozen=True, slots=True)
class BundleOrder:
    """What an operator asks for. At most one of ``token`` and ``new_token``."""

    system: str
    architecture: str
    packing: Packing
    tags: tuple[tuple[str, str], ...] = ()
    address: str | None = None
    token: str | None = field(default=None, repr=False)
    new_token: TokenTerms | None = None
    sign: bool = True
    """Here and now; else by who has the release key."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a bundle says of this server. Its members are asked anew for each bundle; they may block."""

    addresses: Callable[[], tuple[str, ...]]
    ca_pem: Callable[[], str]
    web_certificate_pem: Callable[[], str]
    release_key_pem: Callable[[], str]
    signing_key: Callable[[], ec.EllipticCurvePrivateKey | None]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle, with the token that was made for it."""

    file_name: str
    content: bytes = field(repr=False)
    version: str
    is_signed: bool
    created: TokenRecord | None


class BundleDesk:
    """Where operators get install bundles."""

    def __init__(
        self, tokens: TokenDesk, shelf: Shelf, around: Surroundings, *, now: Callable[[], datetime]
    ) -> None:
        self._tokens = tokens
        self._shelf = shelf
        self._around = around
        self._now = now

    async def build(self, order: BundleOrder, *, actor: str) -> Bundle:
        """Build a bundle.

        Raises:
            BundleRefusedError: it cannot be built.
            ValueError: the order cannot be meant (an address, a tag, the terms of the token).
            AuthorityError: a key or certificate cannot be read.
        """
        found = await asyncio.to_thread(self._artefact, order)
        key = await asyncio.to_thread(self._key) if order.sign else None
        given = None if order.token is None else await self._given(order.token)
        parts = await asyncio.to_thread(self._parts, order, found)
        bundle_entries(parts)  # a rehearsal, before there is a token to lose
        if order.new_token is None:
            return await asyncio.to_thread(self._packed, order, parts, given, key, None)
        created = await self._tokens.create(order.new_token, actor=actor)
        try:
            token = _bundle_token(created.token, created.record)
            return await asyncio.to_thread(self._packed, order, parts, token, key, created.record)
        except BaseException:
            await self._tokens.revoke(created.record.id, actor=actor, reason=_TAKEN_BACK)
            raise

    def _artefact(self, order: BundleOrder) -> Found:
        for form in (Form.TAR_GZ, Form.TAR_XZ):
            # A minimal host has gzip and no xz.
            found = self._shelf.find(system=order.system, architecture=order.architecture, form=form)
            if found is not None and found.manifest is not None:
                return found
        raise NoArtefactError(
            f"no agent archive for {order.system}/{order.architecture} is on this server's shelf; put one there with "
            "`ct-ops-server release add FILE`"
        )

    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = self._around.signing_key()
        if key is None:
            raise BundleRefusedError(
                "the release key is not on this server, so the bundle cannot be signed here: name it with --key FILE, "
                "make one with `ct-ops-server release key init`, or go without with --unsigned"
            )
        return key

    async def _given(self, text: str) -> BundleToken:
        try:
            parsed = parse_token(text)
        except TokenIncompleteError as error:
            raise TokenUnusableError(str(error)) from error
        record = await self._tokens.known(parsed.digest)
        if record is None:
            raise TokenUnusableError("this server does not know the token; see: ct-ops-server token list")
        state = record.state(self._now())
        if state is not TokenState.ACTIVE:
            raise TokenUnusableError(
                f"the token {record.terms.label!r} ({record.id}) is {state}, so it admits nobody"
            )
        return _bundle_token(text, record)

    def _parts(self, order: BundleOrder, found: Found) -> BundleParts:
        assert found.manifest is not None
        addresses = self._around.addresses()
        if order.address is None and not addresses:
            raise BundleRefusedError(
                "this server does not know its address: name it with --address HOST:PORT"
            )
        return BundleParts(
            manifest=found.manifest,
            archive=found.path.read_bytes(),
            address=addresses[0] if order.address is None else agent_address(order.address),
            ca_pem=self._around.ca_pem(),
            tags=order.tags,
            manifest_signature=found.signature,
            web_certificate_pem=self._around.web_certificate_pem(),
            release_key_pem=self._around.release_key_pem(),
        )

    def _packed(
        self,
        order: BundleOrder,
        parts: BundleParts,
        token: BundleToken | None,
        key: ec.EllipticCurvePrivateKey | None,
        created: TokenRecord | None,
    ) -> Bundle:
        entries = bundle_entries(replace(parts, token=token))
        if key is not None:
            entries = signed(entries, key)
        content = pack(entries, order.packing, epoch=date_of(parts.archive))
        name = f"{folder_of(parts.manifest)}.{order.packing}"
        return Bundle(name, content, parts.manifest.version, key is not None, created)


def _bundle_token(text: str, record: TokenRecord) -> BundleToken:
    end = record.terms.expires_at
    return BundleToken(text, record.terms.max_uses, f"{end:%Y-%m-%d %H:%M} UTC" if end else "")
