"""The CT-Ops agent: runs on every host, enrols once, then reports over mutual TLS."""

from importlib.metadata import version as _distribution_version

__version__ = _distribution_version("ct-ops")
