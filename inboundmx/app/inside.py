"""The inside of the gateway, plugged together from ports: reception, deliveries, and what operators ask of them.

Knows who is built from what, and in which order things begin and end. Does not know a reactor, a file or a socket:
``assemble`` brings the real outside, a simulation a faked one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from twisted.internet.defer import Deferred

from inboundmx.checks.api import Tools
from inboundmx.checks.registry import KINDS
from inboundmx.checks.runner import Runner
from inboundmx.checks.zones import Zones
from inboundmx.delivery.asking import Asking
from inboundmx.delivery.courier import Courier
from inboundmx.delivery.pausing import Pauses, PausingCourier
from inboundmx.delivery.retention import Retention
from inboundmx.delivery.routes import RouteFinder
from inboundmx.delivery.service import DeliveryService
from inboundmx.directory.callouts import Callouts
from inboundmx.directory.directory import RecipientDirectory
from inboundmx.directory.learning import Learning
from inboundmx.directory.memory import Memory
from inboundmx.intake.acceptance import Acceptance
from inboundmx.intake.admission import Admission
from inboundmx.intake.alerting import Alerts
from inboundmx.intake.blocking import Blocks
from inboundmx.intake.conversation import GatewayReception, Plan
from inboundmx.intake.doorkeeping import Doorkeeper
from inboundmx.intake.doubting import Doubts
from inboundmx.intake.goodwill import Goodwill
from inboundmx.intake.known_good import KnownGood
from inboundmx.model.settings import Settings
from inboundmx.policy.limiting import rules_of
from inboundmx.policy.listing import Joined, Listing, written_entries
from inboundmx.policy.overriding import Overrides
from inboundmx.ports import Archive, Bodies, Chance, Clock, Hand, Journal, Sources, Spool, Transmitter


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the inside is plugged into. ``tools`` is what checks ask, with the settings to begin with; its ``lists`` are
    what operators added, to which each plan joins what stands in its INI. ``own`` are our
    addresses, beside those in the settings; ``loads``: how many messages wait in the spool of an ``[outbound NAME]``.
    """

    clock: Clock
    chance: Chance
    journal: Journal
    spool: Spool
    bodies: Bodies
    transmitter: Transmitter
    tools: Tools
    pauses: Pauses
    own: Callable[[], Collection[str]] = frozenset
    loads: Callable[[str], int | None] = lambda name: None
    archive: Archive = field(kw_only=True)
    hand: Hand | None = field(default=None, kw_only=True)
    sources: Sources | None = field(default=None, kw_only=True)
    blocks: Blocks | None = field(default=None, kw_only=True)


def plan_of(tools: Tools, journal: Journal) -> Plan:
    """Reception by the settings in ``tools``. Raises ValueError when checks wait for one another."""
    settings = tools.settings
    # Of two lists each is asked for each connection: one that is empty need not be.
    written = [entry for _, entry in written_entries(settings.lists)]
    lists = Joined(Listing(written), tools.lists) if written else tools.lists
    tools = replace(tools, lists=lists)
    checks = [
        (check, KINDS[check.kind](check.options, replace(tools, timeout=check.timeout))) for check in settings.checks
    ]
    return Plan(
        settings,
        Runner(checks, tools.clock, journal),
        {check.name: check for check in settings.checks},
        lists,
        rules_of(settings.abuse),
        Overrides(settings),
    )


class Inside:
    """``settings`` are those in force; ``use`` swaps them whole."""

    def __init__(self, outside: Surroundings) -> None:
        clock, chance, journal, spool = outside.clock, outside.chance, outside.journal, outside.spool
        state = outside.tools.state
        self.settings = outside.tools.settings
        self._journal = journal
        self._pauses = outside.pauses
        current: Callable[[], Settings] = lambda: self.settings  # noqa: E731
        # Each counts its own turns: with one for both, what is spooled and then delivered would always get one host.
        receiving, delivering, asking = (
            RouteFinder(current, outside.tools.resolver, chance, outside.own, outside.loads) for _ in range(3)
        )
        self.courier = Courier(outside.transmitter, current, clock, chance, journal, outside.tools.state)
        self.memory = Memory(outside.tools.state, clock)
        self.courier.answered = Learning(self.memory, current).heard
        self._callouts = Callouts(
            Asking(self.courier), asking, self.memory, clock, chance, journal, outside.tools.health
        )
        directory = RecipientDirectory(self.memory, self._callouts, outside.sources, clock)
        self._zones = Zones(outside.tools.resolver, clock, outside.tools.health, lambda: self._addresses(outside.own()))
        self._tools = replace(outside.tools, directory=directory, zones=self._zones)
        self.deliveries = DeliveryService(
            spool, self.courier, delivering, outside.archive, current, clock, chance, journal, self.is_paused,
            outside.hand,
        )  # fmt: skip
        self._pauses.ended = self.deliveries.resumed
        self._retention = Retention(spool, clock, journal)
        handing_over = PausingCourier(self.courier, self._pauses)
        goodwill = Goodwill(outside.tools.state, clock, journal)
        alerts = Alerts(spool, self.deliveries, state, journal, clock, chance)
        doubts = Doubts(state, alerts, outside.tools.health, journal, clock)
        acceptance = Acceptance(
            receiving, handing_over, spool, self.deliveries, journal, clock, chance, goodwill, doubts
        )
        self.door = Doorkeeper(
            state,
            outside.blocks or Blocks(clock, journal),
            alerts,
            journal,
            clock,
        )
        self.reception = GatewayReception(
            plan_of(self._tools, journal),
            Admission(receiving, handing_over),
            acceptance,
            spool,
            outside.bodies,
            journal,
            clock,
            chance,
            self.door,
            KnownGood(state, clock),
            outside.hand,
        )

    def plan(self, settings: Settings) -> Plan:
        """What ``use`` would make of reception. Raises ValueError."""
        return plan_of(replace(self._tools, settings=settings), self._journal)

    def use(self, plan: Plan) -> None:
        """From the next connection and the next attempt on."""
        self.settings = plan.settings
        self._tools = replace(self._tools, settings=plan.settings)
        self.reception.plan = plan
        self._look_after_lists()

    def _look_after_lists(self) -> None:
        self._zones.keep(probe for each in self.settings.checks for probe in KINDS[each.kind].probes(each.options))

    def _addresses(self, own: Collection[str]) -> Collection[str]:
        """All that we know of by which others see us."""
        gateway = self.settings.gateway
        return {*gateway.addresses, *gateway.hostnames, *own}

    def is_paused(self, domain: str) -> bool:
        return self._pauses.of(domain) is not None

    def start(self) -> None:
        """Adopts what the spool holds. Mail does not wait for the lists that are looked at first."""
        self._look_after_lists()
        self._pauses.start()
        self.deliveries.start()
        self._retention.start()

    def hurry(self) -> None:
        """The first part of a stop: what waits for a connection to a primary is promised instead, so that its sender
        still hears 250."""
        self.deliveries.hurry()

    def stop(self, seconds: float) -> Deferred[None]:
        """Nothing is delivered any more; what is under way has so long. Fires when it is settled on the disk."""
        self._retention.stop()
        self._zones.stop()
        self.reception.turning_away.close()
        self._pauses.stop()
        self._callouts.stop()
        return self.deliveries.stop(seconds)
