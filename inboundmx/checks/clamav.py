"""Asks ClamAV whether a message holds something that it knows as a virus.

Knows the words for what it answers. Does not know how it is spoken to, nor what a virus is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import MB
from inboundmx.model.verdict import Weight
from inboundmx.ports import TooLarge


class ClamAV(Check):
    """``infected``: ClamAV knows something in the message by name. ``too_large``: the message was not looked at.
    ``clean``: all of it was, and nothing is known.

    Nothing else is ever a clean bill: no answer, or one that is cut short or garbled, is an ``error``.
    """

    kind: ClassVar[str] = "clamav"
    stage: ClassVar[Stage] = Stage.MESSAGE
    outcomes: ClassVar[frozenset[str]] = frozenset({"clean", "infected", "too_large"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {"infected": "reject", "error": "defer", "timeout": "defer"}
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "servers", "servers", ("unix:/run/clamav/clamd.ctl",),
            "clamd's sockets, asked in this order until one answers",
        ),
        Option("max_size", "size", 25 * MB, "larger messages are not scanned; at most clamd's StreamMaxLength"),
    )  # fmt: skip

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        if tools is not None:
            self._scanner = tools.scanners.viruses(options["servers"], options["max_size"], tools.timeout)

    async def examine(self, case: Case) -> Finding:
        assert case.message is not None
        body = case.message.body
        try:
            name = await self._scanner.scan(body)
        except TooLarge:
            return Finding("too_large", f"{body.size} octets were not scanned")
        return Finding("infected", name) if name else Finding("clean")
