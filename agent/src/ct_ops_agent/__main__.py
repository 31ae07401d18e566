"""``python -m ct_ops_agent``: the same as the command ``ct-ops-agent``."""

from ct_ops_agent.cli import main

main()
