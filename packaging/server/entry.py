"""Where the frozen server starts."""

from ct_ops_server.cli import main

main()
