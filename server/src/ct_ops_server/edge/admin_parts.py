"""What the admin API works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ct_ops_server.audit.desk import AuditDesk
from ct_ops_server.authority.rotation import AuthorityDesk
from ct_ops_server.enrolment.bundles import BundleDesk
from ct_ops_server.enrolment.carried import CarriedDesk
from ct_ops_server.enrolment.tokens import TokenDesk
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.checks import CheckDesk
from ct_ops_server.fleet.clones import CloneDesk
from ct_ops_server.fleet.health import HealthDesk
from ct_ops_server.fleet.hurry import HurryStore
from ct_ops_server.fleet.samples import SampleDesk
from ct_ops_server.fleet.server_ca_desk import ServerCaDesk
from ct_ops_server.fleet.work_desk import WorkDesk
from ct_ops_server.releases.install_script import InstallOffer


@dataclass(frozen=True)
class AdminParts:
    """What the API works on."""

    tokens: TokenDesk
    audit: AuditDesk
    agents: AgentDesk
    clones: CloneDesk
    samples: SampleDesk
    health: HealthDesk
    checks: CheckDesk
    work: WorkDesk
    bundles: BundleDesk
    carried: CarriedDesk
    authority: AuthorityDesk
    server_ca: ServerCaDesk
    hurries: HurryStore
    hint: Callable[[str], None]
    """Of the push bus of this process."""
    install_offer: Callable[[str], InstallOffer]
    """What to run on a host that shall enrol with a token; blocks, reading the shelf."""
    now: Callable[[], datetime]
    token_warnings: Callable[[], tuple[str, ...]] = tuple
