"""Asks a domain's primary whether it would take mail for a recipient, and believes it within reason.

Knows that the same question is asked once, that questions wait for one another, and how a primary is found out that
says yes to everybody. Does not know connections (``ports.Primaries`` does), nor what an answer is worth.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from inboundmx.directory.memory import Memory
from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Route
from inboundmx.model.settings import DomainSettings
from inboundmx.policy.verifying import Word, answer
from inboundmx.ports import Chance, Clock, Health, Journal, Known, NoRoute, Primaries, Routes, Unavailable

# A primary that has said nothing for so long has not answered.
ANSWER_SECONDS = 10.0
# Different recipients that are asked about at a time, all domains together.
QUESTIONS = 200
# Nobody's mailbox: so long that it cannot be guessed, so short that it is no oddity.
RANDOM_LETTERS = 20


class Callouts:
    def __init__(
        self,
        primaries: Primaries,
        routes: Routes,
        memory: Memory,
        clock: Clock,
        chance: Chance,
        journal: Journal,
        health: Health | None,
    ) -> None:
        self._primaries = primaries
        self._routes = routes
        self._memory = memory
        self._clock = clock
        self._chance = chance
        self._journal = journal
        self._health = health
        # Each with whoever waits for it; a question goes on when nobody does any more, and its answer is remembered.
        self._asking: dict[Address, list[Deferred[Known]]] = {}
        self._running: set[Deferred[Any]] = set()
        self._stopping = False

    async def away(self, domain: DomainSettings) -> str:
        """Why the primary cannot be asked now, as far as is known; empty when it can."""
        route = await self._route(domain)
        return route if isinstance(route, str) else ""

    async def _route(self, domain: DomainSettings) -> Route | str:
        try:
            route = await self._routes.find(domain)
        except (NoRoute, Unavailable) as trouble:
            return str(trouble)
        return "the primary is down" if self._primaries.down(route) else route

    async def ask(self, address: Address, domain: DomainSettings) -> Known:
        """Never raises; ``unreachable`` when no primary is there."""
        route = await self._route(domain)
        if isinstance(route, str):
            return Known("unreachable", route)
        if await self._memory.takes_anybody(domain.name):
            return Known("unasked", "the primary takes any recipient, so it is not asked")
        waiting: Deferred[Known] = Deferred(lambda gone: self._left(address, gone))
        if (others := self._asking.get(address)) is not None:
            others.append(waiting)
            return await waiting
        if self._stopping or len(self._asking) >= QUESTIONS:
            return Known("undetermined", "too many recipients are being asked about")
        self._asking[address] = [waiting]
        question = Deferred.fromCoroutine(self._question(address, domain, route))
        self._running.add(question)
        timer = self._clock.call_later(ANSWER_SECONDS, question.cancel)
        question.addBoth(self._ended, address, question, timer)
        return await waiting

    def stop(self) -> None:
        """Asks nothing more; who waits is told that nobody answered."""
        self._stopping = True
        for question in tuple(self._running):
            question.cancel()

    def _left(self, address: Address, gone: Deferred[Known]) -> None:
        waiting = self._asking.get(address)
        if waiting is not None and gone in waiting:
            waiting.remove(gone)

    def _ended(self, known: Any, address: Address, question: Deferred[Any], timer: Any) -> None:
        timer.cancel()
        self._running.discard(question)
        if not isinstance(known, Known):
            late = known.check(CancelledError) is not None
            if not late:
                fields = {"recipient": str(address), "trouble": str(known.value)}
                self._journal.record("fault", "", fields, level="error")
            known = Known("undetermined", f"no answer within {ANSWER_SECONDS:g} s" if late else "a fault of ours")
        for waiting in self._asking.pop(address, ()):
            waiting.callback(known)

    async def _question(self, address: Address, domain: DomainSettings, route: Route) -> Known:
        if await self._memory.takes_anybody(domain.name) is None:
            stranger = Address(self._chance.token(RANDOM_LETTERS), domain.name)
            word, said = _understood(await self._primaries.ask(stranger, route), stranger)
            if word == "unreachable":
                return Known(word, said)
            takes = {"exists": True, "unknown": False}.get(word)
            self._memory.note_anybody(domain.name, takes)
            self._tell(domain, bool(takes), said)
            if takes:
                return Known("unasked", f"the primary takes any recipient: {said}")
        word, said = _understood(await self._primaries.ask(address, route), address)
        if word in ("exists", "unknown"):
            self._memory.note(address, word == "exists", "callout")
        return Known(word, f"asked now, {said}")

    def _tell(self, domain: DomainSettings, takes: bool, said: str) -> None:
        if takes:
            fields = {"domain": domain.name, "said": said}
            self._journal.record("takes_anybody", "", fields, level="warning")
        if self._health is not None:
            detail = f"takes any recipient, so nobody's mailbox can be asked about; {said}" if takes else ""
            self._health.noted(f"recipients of {domain.name}", not takes, detail)


def _understood(attempt: DeliveryAttempt | None, address: Address) -> tuple[Word | str, str]:
    return ("unreachable", "no primary is there") if attempt is None else answer(attempt, address)
