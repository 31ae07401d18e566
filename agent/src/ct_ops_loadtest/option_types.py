"""What options of the command line may say: durations, and faults in short."""

from __future__ import annotations

from typing import Any

import click

from ct_ops_loadtest.plan import Fault, PlanError, seconds


class Duration(click.ParamType[Any]):
    """A time with its unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return value if isinstance(value, float) else seconds(str(value))
        except PlanError as error:
            self.fail(str(error), param, ctx)


class FaultText(click.ParamType[Any]):
    """``AT[,SHARE]`` of a storm, ``AT,FOR[,SHARE]`` of an outage."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fault:
        """Return the fault."""
        try:
            return _fault(self.name, str(value).split(","))
        except (PlanError, ValueError, IndexError) as error:
            self.fail(f"{value!r} is no {self.name}: {error}", param, ctx)


def _fault(kind: str, parts: list[str]) -> Fault:
    if kind == "storm":
        at, share = parts[0], parts[1:]
        return Fault("storm", seconds(at), float(share[0]) if share else 1.0)
    at, lasts, *share = parts
    return Fault("outage", seconds(at), float(share[0]) if share else 1.0, seconds(lasts))
