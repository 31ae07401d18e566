"""``python -m ct_ops_server`` is ``ct-ops-server``."""

from ct_ops_server.cli import main

main()
