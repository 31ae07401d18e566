"""Which checks an agent is to run: definitions on their way to its live streams (``fleet.dispatch``).

A stream that begins is told the whole list, and told again when it changed. Nothing else is ever read: an
idle agent costs no query, and a look at what changed is one row however many agents there are.

An existing agent ignores an empty list, because existing servers push frames in which it means nothing: its
last check would run until the agent is started again. So an existing agent that has no check any more is
told of one that stands for none (`NO_CHECKS`, ADR 0007): it looks once an hour for a process that does not
exist, and what it says of it is thrown away.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec

from ct_ops_proto.checks import CertificateCheck, CheckConfigError, config_json, parse_check_config
from ct_ops_server.authority.text_seal import SealError, TextSeal
from ct_ops_server.fleet.check_model import NO_CHECKS_ID, StoredDefinition
from ct_ops_server.fleet.check_ports import CheckStore
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.work import CheckDefinition, Work

TOPIC = "checks"
FEATURE = "definitions"
"""Of agents that mind the field that can also say "none"."""
NO_CHECKS = CheckDefinition(
    check_id=NO_CHECKS_ID,
    check_type="process",
    config_json='{"process_name":"ct-ops-no-checks"}',
    interval_s=3_600,
)
_LONGEST_IN_CONFIG_S = 60
_log = logging.getLogger("ct_ops_server.checks")


class CheckProvider:
    """Knows which streams must be told the list of their agent's checks. See ``fleet.dispatch.Provider``."""

    topic = TOPIC

    def __init__(self, store: CheckStore, *, seal: TextSeal) -> None:
        self._store = store
        self._seal = seal
        self._known = 0
        """Number of the latest change that was looked at."""
        self._told: dict[str, int] = {}
        """The generation of the stream that was told last, for agents without a change since."""

    async def due(self, streams: Sequence[LiveStream]) -> Mapping[LiveStream, Work]:
        """Return the full list for each stream that does not have the present one.

        Raises:
            StoreError: the store did not answer; the same streams will be told later.
        """
        await self._forget_changed()
        wanted = [stream for stream in streams if self._told.get(stream.agent_id) != stream.generation]
        found = await self._store.definitions([stream.agent_id for stream in wanted])
        self._told |= {stream.agent_id: stream.generation for stream in wanted}
        return {stream: self._work(stream, found.get(stream.agent_id)) for stream in wanted}

    async def _forget_changed(self) -> None:
        latest = await self._store.last_change()
        if latest < self._known:  # the database went back to a backup
            self._told.clear()
        elif latest > self._known:
            for agent_id in await self._store.agents_changed_after(self._known):
                self._told.pop(agent_id, None)
        self._known = latest

    def _work(self, stream: LiveStream, stored: Sequence[StoredDefinition] | None) -> Work:
        checks = tuple(
            definition for each in stored or () if (definition := self._definition(each)) is not None
        )
        if FEATURE in stream.features or checks:
            return Work(checks=checks)
        # An existing agent that never had any needs to hear nothing.
        return Work() if stored is None else Work(checks=(NO_CHECKS,))

    def _definition(self, stored: StoredDefinition) -> CheckDefinition | None:
        try:
            return CheckDefinition(
                check_id=stored.id,
                check_type=stored.type,
                config_json=_config(stored, self._seal.open(stored.config, bound_to=stored.id)),
                interval_s=stored.interval // timedelta(seconds=1),
                timeout_ms=stored.timeout // timedelta(milliseconds=1),
            )
        except (SealError, CheckConfigError) as error:
            _log.error("check %s cannot be handed to its agent: %s", stored.id, error)
            return None


def _config(stored: StoredDefinition, text: str) -> str:
    """Return the configuration as it is sent: existing agents find a certificate's timeout in it."""
    if stored.type != "certificate" or not stored.timeout:
        return text
    config = parse_check_config(stored.type, text)
    assert isinstance(config, CertificateCheck)
    seconds = min(math.ceil(stored.timeout / timedelta(seconds=1)), _LONGEST_IN_CONFIG_S)
    return config_json(msgspec.structs.replace(config, timeout_seconds=seconds))
