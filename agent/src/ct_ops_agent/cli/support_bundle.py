"""``ct-ops-agent support-bundle``: one archive for whoever helps, without a secret in it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ct_ops_agent import __version__
from ct_ops_agent.cli.configuration import config_option
from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.cli.identity import describe_identity, open_identity
from ct_ops_agent.cli.status import as_document, look
from ct_ops_agent.config.load import Flags, load_config
from ct_ops_agent.config.schema import DEFAULT_FILE, AgentConfig
from ct_ops_agent.errors import ConfigError, InstallationError
from ct_ops_agent.status.text import describe
from ct_ops_agent.support.archive import MANIFEST, gather, manifest, write_archive
from ct_ops_agent.support.masking import Masking, secrets_of

if TYPE_CHECKING:
    from ct_ops_agent.control_plane import Route

_VARIABLES = ("CT_OPS_ENROLMENT_TOKEN", "CT_OPS_ORG_TOKEN")


@click.command("support-bundle")
@config_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to.  [default: ct-ops-agent-support-<time>.tar.gz]",
)
@click.option("--no-collectors", "without_collectors", is_flag=True, help="Do not run the collectors once.")
@click.option("--no-self-test", "without_self_test", is_flag=True, help="Do not connect to the server.")
def support_bundle(
    *, config_file: Path | None, output: Path | None, without_collectors: bool, without_self_test: bool
) -> None:
    """Gather what somebody who helps needs to know: settings, status, log, versions, a self-test.

    Secrets are masked, and the archive is readable by you alone. Look into it before you send it.
    """
    now = time.time()
    with errors_as_exits():
        host = _Host(config_file, dict(os.environ))
        parts = host.parts(collectors=not without_collectors, self_test=not without_self_test)
        files, failed = gather(parts, host.gate)
        files[MANIFEST] = manifest(
            files, failed, {"agent": __version__, "data_dir": str(host.config.data_dir)}, now
        )
        stem = f"ct-ops-agent-support-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
        path = output or Path(f"{stem}.tar.gz")
        _write(path, stem, files, now)
    click.echo(f"wrote {path}: {len(files)} files, secrets masked; look into it before you send it")
    for name, why in failed.items():
        click.echo(f"warning: without {name}: {why}", err=True)


class _Host:
    """Everything that is looked at, under whatever configuration there is."""

    def __init__(self, config_file: Path | None, environment: dict[str, str]) -> None:
        self.path = config_file or DEFAULT_FILE
        self.text = _read(self.path)
        self.problems: tuple[str, ...] = ()
        given = [environment[name] for name in _VARIABLES if environment.get(name)]
        try:
            loaded = load_config(Flags(config_file=config_file), environment)
            self.config, self.effective = loaded.config, loaded.effective
        except ConfigError as error:
            self.problems = tuple(map(str, error.problems))
            # What does not work is what is asked about: everything else is looked at with the defaults.
            loaded = load_config(Flags(config_file=Path(os.devnull)), {})
            self.config, self.effective = loaded.config, ()
        self.gate = Masking(
            secrets_of(self.config.data_dir, [*given, *_secrets_in(self.text), *_credentials()])
        )

    def parts(self, *, collectors: bool, self_test: bool) -> Mapping[str, Callable[[], str]]:
        """Return what makes each file of the archive."""
        from ct_ops_agent.support.host_facts import build_description, versions  # noqa: PLC0415 - for this command only
        from ct_ops_agent.support.log_lines import journal  # noqa: PLC0415 - as above
        from ct_ops_agent.support.settings import masked_settings  # noqa: PLC0415 - as above

        parts: dict[str, Callable[[], str]] = {
            "agent.toml": lambda: masked_settings(self.text),
            "settings.json": lambda: _json(
                [entry._asdict() for entry in self.effective] or list(self.problems)
            ),
            "status.txt": lambda: describe(*look(self.config, now=time.time()), time.time()) + "\n",
            "status.json": lambda: _json(as_document(*look(self.config, now=time.time()))),
            "identity.json": lambda: _json(
                describe_identity(open_identity(self.config.data_dir), self.config.data_dir)
            ),
            "data-directory.txt": lambda: "\n".join(_listing(self.config.data_dir)) + "\n",
            "versions.json": lambda: _json(versions()),
            "agent.log": journal,
        }
        if build := build_description():
            parts["build.json"] = lambda: build
        if collectors:
            parts["collectors.json"] = lambda: _json(asyncio.run(_run_collectors(self.config)))
        if self_test:
            parts["self-test.json"] = lambda: _json(_test_the_way(self.config))
        return parts


async def _run_collectors(config: AgentConfig) -> list[dict[str, Any]]:
    """Run each collector once and say how it went: its state and its cost, not what it has seen."""
    from ct_ops_agent.clock import SYSTEM_CLOCK  # noqa: PLC0415 - loads what only this needs
    from ct_ops_agent.gathering.gatherer import Gatherer  # noqa: PLC0415 - as above

    gatherer = Gatherer(config.collectors.plans, sink=_Nowhere(), clock=SYSTEM_CLOCK, random=lambda: 0.0)
    await gatherer.once()
    costs = {cost.name: asdict(cost) for cost in gatherer.costs()}
    missing = gatherer.missing()
    return [
        {**asdict(state), "without": missing.get(state.name, ""), "cost": costs.get(state.name)}
        for state in gatherer.states()
    ]


class _Nowhere:
    """Takes samples (`samples.TakesSamples`) and forgets them."""

    async def put_samples(self, samples: object) -> None:
        """Forget them."""


def _test_the_way(config: AgentConfig) -> dict[str, Any]:
    from ct_ops_agent.support.self_test import try_address  # noqa: PLC0415 - loads cryptography

    route = _route(config)
    return {address: try_address(route, address) for address in route.addresses}


def _route(config: AgentConfig) -> Route:
    """Return where this agent would connect to, as far as it is known without connecting."""
    from ct_ops_agent.control_plane import Route  # noqa: PLC0415 - with the self-test
    from ct_ops_agent.identity.credentials import CredentialStore  # noqa: PLC0415 - as above

    stored = CredentialStore(config.data_dir).load(None).route
    hint = config.enrolment_token.hint if config.enrolment_token else None
    addresses = stored.addresses or (hint.addresses if hint else ()) or ("localhost:9443",)
    wished = (config.address,) if config.address else ()
    configured = config.ca_cert_file.read_text(encoding="utf-8") if config.ca_cert_file else ""
    descends = hashlib.sha256(configured.encode()).hexdigest() == stored.began_with
    roots = stored.trust_bundle_pem if descends else configured or stored.trust_bundle_pem
    return Route(wished or tuple(addresses), roots, stored.server_name)


def _listing(data_dir: Path) -> Iterator[str]:
    """Yield names, modes, owners and sizes, no content."""
    for path in (data_dir, *sorted(data_dir.iterdir())):
        found = path.lstat()
        yield f"{found.st_mode & 0o7777:04o} {found.st_uid}:{found.st_gid} {found.st_size:>10} {path}"


def _secrets_in(text: str) -> Iterator[str]:
    from ct_ops_agent.support.settings import secrets_in  # noqa: PLC0415 - for this command only

    return secrets_in(text)


def _credentials() -> Iterator[str]:
    """Yield the tokens that the service is given, as far as this process may read them."""
    from ct_ops_agent.service.layout import CREDENTIAL, OLD_CREDENTIAL  # noqa: PLC0415 - as above

    yield from filter(None, (_read(path).strip() for path in (CREDENTIAL, OLD_CREDENTIAL)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, folder: str, files: Mapping[str, bytes], now: float) -> None:
    try:
        write_archive(path, folder, files, now)
    except FileExistsError as error:
        raise InstallationError(f"{path} is there already; -o writes elsewhere") from error
    except OSError as error:
        raise InstallationError(f"{path} cannot be written: {error.strerror}") from error
