"""Do a plan, one step after the other, and say each as it is done.

When one fails, what was done before stays: the order of the plan sees to it that the host has an agent that works,
and doing the whole again is safe. One installation at a time: the folder of the versions is locked.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ct_ops_agent.errors import InstallationError
from ct_ops_agent.service import layout
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.steps import Step


def do_all(steps: Sequence[Step], machine: Machine, say: Callable[[str], None]) -> None:
    """Do all steps.

    Raises:
        InstallationError: one failed, or another installation is under way.
    """
    for number, step in enumerate(steps, start=1):
        say(f"{number:>3}. {step}")
        try:
            step.do(machine)
        except (OSError, InstallationError) as error:
            raise InstallationError(
                f"could not {step}: {error}\n"
                "The steps before it are done and do no harm; put this right, then run the same command again."
            ) from error


@contextmanager
def only_one(machine: Machine) -> Iterator[None]:
    """Keep every other installation and removal on this host waiting outside.

    Raises:
        InstallationError: one is under way, or nothing may be written here.
    """
    try:
        machine.make_folder(layout.VERSIONS)
        descriptor = os.open(machine.at(layout.VERSIONS), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InstallationError(f"{layout.VERSIONS} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InstallationError("another installation is under way on this host; wait for it") from error
    finally:
        os.close(descriptor)
