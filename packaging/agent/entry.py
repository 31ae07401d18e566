"""Where the frozen agent starts."""

from ct_ops_agent.cli import main

main()
