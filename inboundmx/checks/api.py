"""The interface of a check: one file, one class, one method, no numbers.

Knows what a check is given and what it gives back. Does not know any check; ``registry`` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from inboundmx.checks.zones import Probe, Zones
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.message import Message
from inboundmx.model.record import record
from inboundmx.model.session import Session
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.model.verdict import Weight
from inboundmx.policy.listing import NOBODY
from inboundmx.ports import (
    Clock,
    Contents,
    Directory,
    Health,
    Lists,
    MacroReader,
    Offload,
    Resolver,
    Scanners,
    StateStore,
    Vocabulary,
)

# Outcomes every check has: what it asked did not answer rightly, or not in time.
ALWAYS = frozenset({"error", "timeout"})


@record(frozen=True, slots=True)
class Case:
    """What is known at a stage. ``recipient`` at RECIPIENT, ``message`` at MESSAGE, else None; ``envelope`` holds what
    was given so far; ``results`` are those of the kinds that the check names in ``after``; ``domain`` at RECIPIENT what
    holds for the recipient."""

    session: Session
    envelope: Envelope
    recipient: Address | None = None
    message: Message | None = None
    results: tuple[CheckResult, ...] = ()
    domain: DomainSettings | None = None


@record(frozen=True, slots=True)
class Tools:
    """What a check may ask of the outside, and the settings it is part of. ``timeout``: seconds after which nobody
    waits any more for the check that is made with them. ``directory``, ``zones`` and ``vocabulary`` are
    there whenever a check runs."""

    settings: Settings
    clock: Clock
    resolver: Resolver
    state: StateStore
    scanners: Scanners
    offload: Offload
    contents: Contents
    health: Health
    timeout: float = 5.0
    lists: Lists = NOBODY
    directory: Directory | None = None
    macros: MacroReader | None = None
    zones: Zones | None = None
    vocabulary: Vocabulary | None = None


class Option(NamedTuple):
    """A key of ``[check …]`` beside the common ones. ``kind`` names how its text is read, as in ``model.settings``;
    ``required``: the check cannot do without it."""

    name: str
    kind: str
    default: Any
    help: str
    required: bool = False


class Check(Protocol):
    """``outcomes`` leaves out ``error`` and ``timeout``, which are always added. ``weights``: what outcomes that decide
    are worth when the INI is silent; every other weighs 0. ``after``: kinds whose results it reads. ``dear``: asked
    last, and not at all when nothing it says could change the verdict. ``most_points``: how far from 0 ``points`` of
    its findings may be. ``again``: a later stage at which it is asked once more, for more is known then; what it says
    then takes the place of what it said. ``about``: whether mail is ``spam`` (not asked of clients that are whitelisted
    for that), what the ``origin`` of mail is (asked of them as well, weighs nothing), at what ``rate`` it comes
    (asked before the message of clients that may send out through us as well), or something ``other`` (counts for
    everybody). ``client``: what is looked at of the client, and so not of a bypass gateway: its ``address`` and HELO
    (asked later, about whom the mail came from), or how it behaves on its ``connection``.

    There is no ``try`` in a check: ``Unavailable`` (and any fault) becomes ``error`` in the runner, once, for all.
    Made with options alone it only says whether they can be used (raising ValueError); ``tools`` are there whenever it
    is to examine anything.
    """

    kind: ClassVar[str]
    stage: ClassVar[Stage]
    again: ClassVar[Stage | None] = None
    about: ClassVar[Literal["spam", "origin", "rate", "other"]] = "other"
    client: ClassVar[Literal["", "address", "connection"]] = ""
    outcomes: ClassVar[frozenset[str]]
    after: ClassVar[frozenset[str]] = frozenset()
    options: ClassVar[tuple[Option, ...]] = ()
    weights: ClassVar[Mapping[str, Weight]] = {}
    dear: ClassVar[bool] = False
    most_points: float = 0.0

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None: ...

    @classmethod
    def words(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """``outcomes``, and those that the options name."""
        return cls.outcomes

    @classmethod
    def probes(cls, options: Mapping[str, Any]) -> tuple[Probe, ...]:
        """The lists in DNS that it asks, and what is to be seen of them before they are believed."""
        return ()

    async def examine(self, case: Case) -> Finding: ...
