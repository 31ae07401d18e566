"""The desks that operators use, put together over an open installation: the admin API."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ct_ops_proto.enrolment_token import ServerHint
from ct_ops_server.audit.desk import AuditDesk
from ct_ops_server.core import Core, keeping_of
from ct_ops_server.edge.admin_app import build_admin_app
from ct_ops_server.edge.admin_groups import GroupedApp
from ct_ops_server.edge.admin_parts import AdminParts
from ct_ops_server.enrolment.bundles import BundleDesk, Surroundings
from ct_ops_server.enrolment.carried import CarriedDesk, Meeting
from ct_ops_server.enrolment.tokens import TokenDesk
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.checks import CheckDesk
from ct_ops_server.fleet.clones import CloneDesk
from ct_ops_server.fleet.health import HealthDesk
from ct_ops_server.fleet.samples import SampleDesk
from ct_ops_server.fleet.server_ca_desk import ServerCaDesk
from ct_ops_server.fleet.work_desk import WorkDesk
from ct_ops_server.releases.install_script import install_offer
from ct_ops_server.releases.release_key import load_signing_key, release_key_text
from ct_ops_server.store.audit_recording import Recorder

_CHECK_ID_BYTES = 8
_WORK_ID_BYTES = 8
_PIN_IS_LEAF = (
    "INGEST_TLS_CERT holds no CA, so this token pins the server's certificate itself and is void once that "
    "is replaced; set INGEST_TLS_CA to the CA's certificate"
)


def admin_app(core: Core, *, hint: Callable[[str], None]) -> GroupedApp:
    """Return the admin API; ``hint`` tells the push bus of this process what was decided."""
    tls = core.keys.tls
    agents = AgentDesk(core.store.agents, hint=hint)
    tokens = TokenDesk(
        core.store.tokens,
        core.store.refusals,
        hint=lambda: ServerHint(tls.current.pin, core.whereabouts.addresses),
        random_bytes=secrets.token_bytes,
        now=core.now,
    )
    parts = AdminParts(
        tokens=tokens,
        bundles=BundleDesk(tokens, core.shelf, _surroundings(core), now=core.now),
        carried=CarriedDesk(
            core.enrolment,
            tokens,
            core.store.carried,
            core.store.refusals,
            meeting=lambda: _meeting(core),
            installation_id=core.installation.id,
            now=core.now,
        ),
        audit=AuditDesk(
            core.store.audit,
            Recorder(core.store.writer).record,
            core.audit_place().signer,
            public_pem=core.keys.audit.public_pem,
            now_ms=core.now_ms,
        ),
        agents=agents,
        clones=CloneDesk(core.store.clones, core.store.successions, agents, hint=hint),
        samples=SampleDesk(core.store.samples, keeping=keeping_of(core.settings), now=core.now),
        health=HealthDesk(core.store.health),
        checks=CheckDesk(
            core.store.checks,
            agents,
            seal=core.keys.text_seal,
            hint=hint,
            new_id=lambda: secrets.token_hex(_CHECK_ID_BYTES),
        ),
        work=WorkDesk(
            agents,
            core.store.queries,
            core.store.tasks,
            core.store.inventory,
            hint=hint,
            new_id=lambda: secrets.token_hex(_WORK_ID_BYTES),
        ),
        install_offer=lambda token: install_offer(
            core.whereabouts.install_source(), core.shelf.everything(), token
        ),
        authority=core.authority_desk(hint=hint),
        hurries=core.store.hurries,
        hint=hint,
        server_ca=ServerCaDesk(core.store.anchors, tls, core.server_cas, hint=hint, now=core.now),
        now=core.now,
        token_warnings=lambda: (_PIN_IS_LEAF,) if tls.current.pin_is_leaf else (),
    )
    return build_admin_app(parts)


def _meeting(core: Core) -> Meeting:
    tls = core.keys.tls.current
    return Meeting(core.whereabouts.addresses, tls.published_pem, tls.pin)


def _surroundings(core: Core) -> Surroundings:
    """Return what install bundles say of this server."""
    data_dir = core.settings.data_dir

    def web_certificate_pem() -> str:
        certificate = core.whereabouts.proxy_certificate()
        return certificate.pem if certificate else ""

    return Surroundings(
        addresses=lambda: core.whereabouts.addresses,
        ca_pem=lambda: core.keys.tls.current.published_pem,
        web_certificate_pem=web_certificate_pem,
        release_key_pem=lambda: release_key_text(data_dir),
        signing_key=lambda: load_signing_key(data_dir, None),
    )
