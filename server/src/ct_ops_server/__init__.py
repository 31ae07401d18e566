"""The CT-Ops server: enrolment, its certificate authority, the fleet's state."""

from importlib.metadata import version as _distribution_version

__version__ = _distribution_version("ct-ops")
