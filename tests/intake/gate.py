"""A reception with real policy and checks, and a courier, spool and journal that remember."""

from __future__ import annotations

import hashlib
from typing import Any

from fakes.chance import FakeChance
from fakes.routes import FakeRoutes
from fakes.spool import FakeSpool
from fakes.state import FakeStateStore
from twisted.internet.defer import Deferred

from inboundmx.app.health import ServicesHealth
from inboundmx.checks.api import Tools
from inboundmx.checks.registry import KINDS
from inboundmx.checks.runner import Runner
from inboundmx.intake.acceptance import Acceptance
from inboundmx.intake.admission import Admission
from inboundmx.intake.alerting import Alerts
from inboundmx.intake.blocking import Blocks
from inboundmx.intake.conversation import GatewayReception, Plan
from inboundmx.intake.doorkeeping import Doorkeeper
from inboundmx.intake.doubting import Doubts
from inboundmx.intake.goodwill import Goodwill
from inboundmx.intake.known_good import KnownGood
from inboundmx.model.address import Address
from inboundmx.model.custody import Handover, Host, Parcel, Route
from inboundmx.model.envelope import Envelope
from inboundmx.model.message import Body
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, DomainSettings, GatewaySettings, Settings
from inboundmx.policy.limiting import rules_of
from inboundmx.policy.listing import NOBODY
from inboundmx.policy.overriding import Overrides
from inboundmx.ports import Lists
from inboundmx.prompt import promptly

HOST = Host("192.0.2.10", 25)
SENDER = Address("s", "b.example")
ANN, BOB, EVE = Address("ann", "a.example"), Address("bob", "a.example"), Address("eve", "c.example")
MAIL = b"From: s@b.example\r\nSubject: hello\r\n\r\nbody\r\n"
SPAM = MAIL.replace(b"hello", b"buy pills")
SESSION = Session("0000000session0", "192.0.2.99", 4000, "192.0.2.1", 1_800_000_000.0, "client.b.example", True)


def check(name: str, value: str, weight: Any, **more: Any) -> CheckSettings:
    weights = {"match": weight, "absent": 0.0, "error": 0.0, "timeout": 0.0}
    return CheckSettings(name, "headers", weights=weights, options={"header": "Subject", "value": value}, **more)


def domain(name: str, **more: Any) -> DomainSettings:
    return DomainSettings(name, primary=(HOST,), **more)


def settings(*checks: CheckSettings, domains: tuple[DomainSettings, ...] = (), **more: Any) -> Settings:
    domains = domains or (domain("a.example"), domain("c.example"))
    gateway = GatewaySettings(hostname="mx.example.net", postmaster="postmaster@mx.example.net")
    return Settings(gateway=gateway, domains={d.name: d for d in domains}, checks=checks, **more)


class FakeClock:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> Any:
        """Nothing waits for it here."""


class FakeJournal:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        if level != "debug":
            self.events.append((event, id, dict(fields)))

    def names(self) -> list[str]:
        return [event for event, _, _ in self.events]


class FakeCourier:
    def __init__(self) -> None:
        self.handover: Any = Handover("delivered", HOST, Reply(250, "2.0.0", "taken"))
        self.parcels: list[Parcel] = []
        self.routes: list[Route] = []
        self.limits: dict[str, int] = {}
        self.asked: list[tuple[str, int, bool]] = []

    def unable(self, route: Route, size: int, utf8: bool) -> Reply | None:
        """As if all hosts of the domains in ``limits`` were down, and had taken so many octets and no SMTPUTF8."""
        self.asked.append((route.domain, size, utf8))
        if route.domain not in self.limits:
            return None
        if utf8:
            return Reply(553, "5.6.7", "no SMTPUTF8 there")
        return Reply(552, "5.3.4", "too large there") if size > self.limits[route.domain] else None

    async def hand_over(self, parcel: Parcel, route: Route) -> Handover:
        self.parcels.append(parcel)
        self.routes.append(route)
        return await self.handover if isinstance(self.handover, Deferred) else self.handover


class FakeDeliveries:
    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.claims: list[Any] = []
        # What is foreseen of any entry; None: nothing.
        self.foresight: Any = None
        self.followed: list[Any] = []

    def foreseen(self, entry: Any, route: Any) -> Any:
        if self.foresight is None:
            return None
        after = self.foresight(entry, route)
        return after, lambda: self.followed.append(after)

    def deposited(self, entries: Any) -> None:
        self.entries.extend(entries)

    def claimed(self, entry: Any, late: Any) -> None:
        self.claims.append((entry, late))


class FakeDraft:
    def __init__(self) -> None:
        self.discarded = False

    def discard(self) -> None:
        self.discarded = True


class Gate:
    """Everything, and ``talk``: a conversation whose questions are answered at once."""

    def __init__(self, given: Settings, session: Session = SESSION, lists: Lists = NOBODY) -> None:
        self.settings = given
        self.clock = FakeClock()
        self.chance = FakeChance()
        self.journal = FakeJournal()
        self.spool = FakeSpool()
        self.routes = FakeRoutes()
        self.courier = FakeCourier()
        self.deliveries = FakeDeliveries()
        self.drafts: list[FakeDraft] = []
        nothing: Any = None
        tools = Tools(given, self.clock, nothing, nothing, nothing, nothing, nothing, nothing, lists=lists)
        # Only what looks at the lists needs tools here.
        made = [
            (one, KINDS[one.kind](one.options, *([tools] if one.kind == "blocked" else []))) for one in given.checks
        ]
        runner = Runner(made, self.clock)
        checks = {one.name: one for one in given.checks}
        plan = Plan(given, runner, checks, lists, rules_of(given.abuse), Overrides(given))
        self.state = FakeStateStore(self.clock)
        # How often what is found, apart from what else is remembered.
        self.counts = FakeStateStore(self.clock)
        self.health = ServicesHealth(self.clock, self.journal)
        alerts = Alerts(self.spool, self.deliveries, self.state, self.journal, self.clock, self.chance)
        self.blocks = Blocks(self.clock, self.journal)
        self.door = Doorkeeper(self.state, self.blocks, alerts, self.journal, self.clock)
        acceptance = Acceptance(
            self.routes, self.courier, self.spool, self.deliveries, self.journal, self.clock, self.chance,
            Goodwill(self.state, self.clock, self.journal),
            Doubts(self.counts, alerts, self.health, self.journal, self.clock),
        )  # fmt: skip
        self.reception = GatewayReception(
            plan,
            Admission(self.routes, self.courier),
            acceptance,
            self.spool,
            self,
            self.journal,
            self.clock,
            self.chance,
            self.door,
            KnownGood(self.state, self.clock),
        )
        self.conversation = self.reception.conversation(session)

    def draft(self, id: str) -> FakeDraft:
        self.drafts.append(FakeDraft())
        return self.drafts[-1]

    def ask(self, question: Any) -> Any:
        """The answer, or the Deferred of one that waits."""
        answers: list[Any] = []
        waiting = promptly(question, answers.append, lambda failure: failure.raiseException())
        return answers[0] if answers else waiting

    def envelope(self, *recipients: Address, sender: Address | None = SENDER) -> None:
        assert self.ask(self.conversation.mail(Envelope(sender))).code == 250
        for recipient in recipients:
            assert self.ask(self.conversation.recipient(recipient)).code == 250

    def send(self, content: bytes, *recipients: Address, sender: Address | None = SENDER) -> Any:
        self.envelope(*recipients, sender=sender)
        self.conversation.draft()
        return self.ask(self.conversation.content(body(content)))


def body(content: bytes) -> Body:
    return Body(len(content), content, None, hashlib.sha256(content).digest())
