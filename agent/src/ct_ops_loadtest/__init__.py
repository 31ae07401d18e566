"""The load tool: virtual agents over the real wire."""
