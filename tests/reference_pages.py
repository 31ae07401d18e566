"""Reference pages printed from the programs themselves: their commands, and what the server counts."""

from __future__ import annotations

from collections.abc import Iterator

import click
from prometheus_client import CollectorRegistry

from ct_ops_agent.cli.root import main as agent
from ct_ops_loadtest.cli import main as load_tool
from ct_ops_server.cli.root import main as server
from ct_ops_server.edge.audit_metrics import AuditMetrics
from ct_ops_server.edge.authority_metrics import AuthorityMetrics
from ct_ops_server.edge.metrics import EdgeMetrics, StoreMetrics
from ct_ops_server.edge.process_metrics import ProcessMetrics
from ct_ops_server.edge.server_ca_metrics import ServerCaMetrics

_WIDTH = 100


def agent_commands_markdown() -> str:
    """Return the help of every command of the agent."""
    return commands_markdown(agent, "ct-ops-agent")


def server_commands_markdown() -> str:
    """Return the help of every command of the server."""
    return commands_markdown(server, "ct-ops-server")


def load_test_commands_markdown() -> str:
    """Return the help of every command of the load tool."""
    return commands_markdown(load_tool, "ct-ops-loadtest")


def commands_markdown(root: click.Command, name: str) -> str:
    """Return the help of a program, a section a command, as its terminal shows it."""
    parts = [f"### {path}\n\n```\n{text}\n```" for path, text in helps(root, name)]
    return "\n\n".join(parts)


def helps(
    command: click.Command, path: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Yield every visible command below this one, with its help."""
    # With the command's own settings: click keeps a help option that was made without them.
    own = {"max_content_width": _WIDTH, **command.context_settings}
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **own)
    context.terminal_width = _WIDTH
    yield path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from helps(inner, f"{path} {name}", context)


def metrics_markdown() -> str:
    """Return every metric of ``/metrics``, by name."""
    registry = registry_of_a_server()
    found = sorted(registry.collect(), key=lambda family: family.name)
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | "
        f"{', '.join(labels_of(registry, family.name))} | {family.documentation} |"
        for family in found
    ]
    return "\n".join(("| metric | kind | labels | counts |", "|---|---|---|---|", *rows))


def registry_of_a_server() -> CollectorRegistry:
    """Return a registry with every metric that a server has."""
    registry = CollectorRegistry()
    for metrics in (
        AuditMetrics,
        EdgeMetrics,
        StoreMetrics,
        ProcessMetrics,
        ServerCaMetrics,
        AuthorityMetrics,
    ):
        metrics(registry)
    return registry


def labels_of(registry: CollectorRegistry, family: str) -> tuple[str, ...]:
    """Return the names of a metric's labels, which a metric that has counted nothing does not show."""
    collectors = {
        name: collector for collector, names in registry._collector_to_names.items() for name in names
    }
    return tuple(getattr(collectors.get(family), "_labelnames", ()))
