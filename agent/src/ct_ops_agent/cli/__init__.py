"""``ct-ops-agent``: the command line, and the only place that prints.

* ``root``           the command itself, which runs the agent when no command is named
* ``running``        ``run``            ``status``     how the agent of this host is
* ``identity``       ``identity show``, ``identity rotate-key``
* ``enrolment``      ``enrolment forget-token``
* ``installing``     ``install``        ``uninstalling``  ``uninstall``     ``unit``  ``unit``
* ``support_bundle`` ``support-bundle``  ``tokens``       where a token comes from
* ``configuration``  the option that all have      ``exits``  exit codes

Everything heavy is imported inside a command: ``--help`` and a mistake in the configuration answer at once.
"""

from ct_ops_agent.cli.root import main

__all__ = ["main"]
