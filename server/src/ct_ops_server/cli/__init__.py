"""``ct-ops-server``: the command line.

* ``root``    the command itself and what all commands share
* ``serve``   runs a server              ``logs``   what it writes to standard error
* ``admin``   asks a running server, or opens the installation when none runs
* ``agents``, ``tokens``, ``settings``  the commands
* ``output``  tables, lines and JSON      ``exits``  exit codes
"""

from ct_ops_server.cli.root import main

__all__ = ["main"]
