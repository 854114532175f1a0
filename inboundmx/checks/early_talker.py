"""Whether the client spoke before it was greeted (RFC 5321 3.1): who sends spam has no time to wait.

Knows what was noted of the connection. Does not know how long it was to wait: ``[smtp] banner_delay`` says so, and
without one nobody is early.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.verdict import Weight


class EarlyTalker(Check):
    """``yes``: it did not wait for the greeting. ``no``: it did, or there was nothing to wait for."""

    kind: ClassVar[str] = "early_talker"
    stage: ClassVar[Stage] = Stage.CONNECT
    client: ClassVar[Literal["", "address", "connection"]] = "connection"
    outcomes: ClassVar[frozenset[str]] = frozenset({"yes", "no"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """There is nothing to set, and nothing to ask."""

    async def examine(self, case: Case) -> Finding:
        return Finding("yes", "spoke before the greeting") if case.session.early else Finding("no")
