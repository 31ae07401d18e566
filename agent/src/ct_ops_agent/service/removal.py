"""What is to be done to take the agent off a host: a pure decision, as for the installation.

It removes what an installation puts there and nothing else. Other files in ``/etc/ct-ops`` and ``/var/lib/ct-ops``
(the keys of a server, above all) stay where they are, and so does in a data directory whatever is not the agent's.
The agent is stopped before anything goes, and the program that does this is the last to go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ct_ops_agent.service import layout
from ct_ops_agent.service.belongings import belongs_to_agent, foreign_among
from ct_ops_agent.service.steps import Remove, RemoveBelongings, RemoveIfEmpty, RemoveUser, Run, Step
from ct_ops_agent.service.survey import Installed

_OWN_DROP_INS = (layout.CREDENTIAL_DROP_IN, layout.DATA_DROP_IN)


@dataclass(frozen=True)
class Presence:
    """What there is to be removed."""

    installed: Installed
    data_dir: Path
    data_entries: tuple[str, ...]
    files: frozenset[Path]
    """Those of the fixed places of `layout` that are there."""

    has_user: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing of an agent is here."""
        there = self.installed
        return not (there.versions or there.current or there.unit or self.data_entries or self.files)


def complaints(presence: Presence, *, may_be_changed: bool) -> Iterator[str]:
    """Yield every reason why nothing can be removed, each with what to do."""
    if not may_be_changed:
        yield "a removal changes the host: run it as root (sudo ct-ops-agent uninstall)"
    if presence.installed.is_packaged and presence.installed.unit is None:
        yield "the agent of this host came as a package: remove it with the package manager"


def plan_removal(presence: Presence, *, keep_identity: bool, image: bool) -> tuple[Step, ...]:
    """Return what is to be done, in order.

    Args:
        presence: what there is.
        keep_identity: leave the data directory and the configuration, so that a later installation is the same agent.
        image: this is not the host that runs.
    """
    keep_identity = keep_identity or presence.installed.is_packaged
    return (
        *_stop(presence, image=image),
        *(() if keep_identity else _data(presence)),
        *_secrets_and_settings(presence, keep_identity=keep_identity),
        *_user(presence, keep_identity=keep_identity),
        *_program(presence, keep_identity=keep_identity),
    )


def left_alone(presence: Presence, *, keep_identity: bool) -> Iterator[str]:
    """Yield what stays although it has to do with the agent, a sentence each."""
    if presence.installed.is_packaged:
        yield f"{presence.data_dir}, {layout.CONFIGURATION} and the user {layout.USER}: the package's agent has them now"
        return
    if keep_identity:
        yield f"{presence.data_dir} and {layout.CONFIGURATION}: a later installation is the same agent again"
    elif foreign := foreign_among(presence.data_entries):
        yield f"in {presence.data_dir}: {', '.join(foreign)}: not the agent's"
    own = {path.name for path in _OWN_DROP_INS}
    for name in presence.installed.drop_ins:
        if name not in own:
            yield f"{layout.DROP_INS / name}: no installation wrote it"
    if presence.has_user and not _user_goes(presence, keep_identity=keep_identity):
        yield f"the user {layout.USER}: " + ("its files stay" if keep_identity else "no installation made it")


def _stop(presence: Presence, *, image: bool) -> Iterator[Step]:
    there = presence.installed.unit is not None
    if there and not image:
        yield Run(("systemctl", "stop", layout.UNIT.name))
        yield Run(("systemctl", "disable", layout.UNIT.name))
    yield from _removed(presence, *((layout.WANTED,) if image else ()), layout.UNIT, *_OWN_DROP_INS)
    if presence.installed.drop_ins:
        yield RemoveIfEmpty(layout.DROP_INS)
    if there and not image:
        yield Run(("systemctl", "daemon-reload"))


def _data(presence: Presence) -> Iterator[Step]:
    if ours := tuple(filter(belongs_to_agent, presence.data_entries)):
        yield RemoveBelongings(presence.data_dir, ours)
    yield RemoveIfEmpty(presence.data_dir)
    if presence.data_dir == layout.DATA:
        yield RemoveIfEmpty(layout.DATA.parent)


def _secrets_and_settings(presence: Presence, *, keep_identity: bool) -> Iterator[Step]:
    yield from _removed(presence, layout.CREDENTIAL, layout.OLD_CREDENTIAL)
    if layout.OLD_CREDENTIAL in presence.files:
        yield RemoveIfEmpty(layout.OLD_CREDENTIAL.parent)
    if not keep_identity:
        yield from _removed(presence, layout.CONFIGURATION, layout.AUTHORITY)
        yield RemoveIfEmpty(layout.CONFIGURATION.parent)


def _user(presence: Presence, *, keep_identity: bool) -> Iterator[Step]:
    if not keep_identity:
        yield from _removed(presence, layout.SYSUSERS)
    if _user_goes(presence, keep_identity=keep_identity):
        yield RemoveUser()


def _user_goes(presence: Presence, *, keep_identity: bool) -> bool:
    return presence.has_user and presence.installed.user_is_ours and not keep_identity


def _program(presence: Presence, *, keep_identity: bool) -> Iterator[Step]:
    installed = presence.installed
    if installed.current or (installed.program_is_foreign and installed.unit is not None):
        yield Remove(layout.PROGRAM)
    if not keep_identity:  # it says who made the user, which stays too
        yield from _removed(presence, layout.RECORD)
    for name in installed.recorded_versions if installed.is_packaged else installed.versions:
        yield Remove(layout.VERSIONS / name)
    yield RemoveIfEmpty(layout.VERSIONS)
    yield RemoveIfEmpty(layout.VERSIONS.parent)


def _removed(presence: Presence, *paths: Path) -> Iterator[Step]:
    return (Remove(path) for path in paths if path in presence.files)
