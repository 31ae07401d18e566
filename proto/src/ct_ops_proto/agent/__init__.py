"""Generated messages of ``agent.v1``."""
