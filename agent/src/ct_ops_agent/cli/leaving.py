"""``uninstall --deregister``: tell the server first, while the key that proves it is still here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ct_ops_agent.assembly import build_first_contact, read_wishes
from ct_ops_agent.config.load import Flags, load_config
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.deregistration import Farewell, deregister
from ct_ops_agent.errors import EnrolmentRefusedError, InstallationError, UnreachableError
from ct_ops_agent.identity.credentials import CredentialStore, Stored
from ct_ops_agent.identity.keystore import KeyPair, load_key_pair
from ct_ops_agent.route import RouteFinder
from ct_ops_agent.service import layout
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.transport.control_plane import GrpcConnector


@dataclass(frozen=True)
class Goodbye:
    """What became of it."""

    sentence: str
    is_done: bool
    """Nothing is left to be done on the server."""


_GOODBYES = {
    Farewell.DEREGISTERED: Goodbye("deregistered: the server admits agent {id} no more", is_done=True),
    Farewell.REVOKED: Goodbye("the server had revoked agent {id} already", is_done=True),
    Farewell.UNKNOWN: Goodbye("the server does not know agent {id} any more", is_done=True),
    Farewell.UNSUPPORTED: Goodbye("this server cannot be told by an agent that it leaves", is_done=False),
}


def say_goodbye(machine: Machine) -> Goodbye:
    """Deregister the agent whose identity is on this host.

    Raises:
        ConfigError: there is no telling which server it is.
        DataDirectoryError: the identity cannot be read.
        InstallationError: the server did not answer, or said no; nothing was changed there.
    """
    config = load_config(Flags(config_file=machine.at(machine.follow(layout.CONFIGURATION))), {}).config
    directory = machine.at(config.data_dir)
    keys = load_key_pair(directory)
    stored = CredentialStore(directory).load(keys)
    if keys is None or not stored.agent_id:
        return Goodbye("this host is not enrolled: there is nobody to deregister", is_done=True)
    try:
        farewell = asyncio.run(_leave(config, keys, stored))
    except (EnrolmentRefusedError, UnreachableError) as error:
        raise InstallationError(
            f"not deregistered, and nothing was taken off: {error}. Try again later; or uninstall without --deregister, and "
            f"on the server type: ct-ops-server agent revoke {stored.agent_id}"
        ) from error
    goodbye = _GOODBYES[farewell]
    return Goodbye(goodbye.sentence.format(id=stored.agent_id), goodbye.is_done)


async def _leave(config: AgentConfig, keys: KeyPair, stored: Stored) -> Farewell:
    finder = RouteFinder(read_wishes(config, enrolled=True), build_first_contact)
    return await deregister(GrpcConnector(), await finder.find(stored.route), keys, stored.agent_id)
