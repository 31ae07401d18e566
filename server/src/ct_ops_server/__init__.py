"""The CT-Ops server: enrolment, its certificate authority, the fleet's state."""


def version() -> str:
    """Return the version of this server."""
    from importlib import metadata  # noqa: PLC0415  most commands never ask, and would wait for it

    return metadata.version("ct-ops")
