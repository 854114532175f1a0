"""Asks a domain's primary whether it would take mail for a recipient, and believes it within reason.

Knows that the same question is asked once, that questions wait for one another, and how a primary is found out that
says yes to everybody, or no. Does not know connections (``ports.Primaries`` does), nor what an answer is worth.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from inboundmx.directory.memory import Memory
from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Host, Route
from inboundmx.model.settings import DomainSettings
from inboundmx.policy.verifying import Word, answer, outspoken
from inboundmx.ports import Chance, Clock, Health, Journal, Known, NoRoute, Primaries, Routes, Unavailable

# A primary that has said nothing for so long has not answered.
ANSWER_SECONDS = 10.0
# Different recipients that are asked about at a time, all domains together. At one primary there may be as many as are
# left for others then: one alone half of them, and when several are slow the next one still has places.
QUESTIONS = 400
# How often a primary that denies everybody is asked for the mailbox that every domain must have.
POSTMASTER_SECONDS = 600.0
DENYING = 1000
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
        # How many of them at one primary.
        self._at: Counter[frozenset[Host]] = Counter()
        # Domains whose postmaster is being asked about, and who else wants to know.
        self._vouching: dict[str, list[Deferred[bool]]] = {}
        self._running: set[Deferred[Any]] = set()
        # Domains whose primary denied even postmaster, and until when it is not asked for him again.
        self._denying: dict[str, float] = {}
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
        primary = frozenset(route.hosts)
        if self._stopping or self._at[primary] >= QUESTIONS - len(self._asking):
            return Known("undetermined", "too many recipients are being asked about")
        self._asking[address] = [waiting]
        self._at[primary] += 1
        question = Deferred.fromCoroutine(self._question(address, domain, route))
        self._running.add(question)
        timer = self._clock.call_later(ANSWER_SECONDS, question.cancel)
        question.addBoth(self._ended, address, question, timer, primary)
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

    def _ended(
        self, known: Any, address: Address, question: Deferred[Any], timer: Any, primary: frozenset[Host]
    ) -> None:
        timer.cancel()
        self._running.discard(question)
        self._at[primary] -= 1
        if not self._at[primary]:
            del self._at[primary]
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
            if takes:
                self._tell(domain, "takes_anybody", f"takes any recipient, so that nobody can be asked about; {said}")
                return Known("unasked", f"the primary takes any recipient: {said}")
            if takes is False:
                self._tell(domain, "", "")
        attempt = await self._primaries.ask(address, route)
        word, said = _understood(attempt, address)
        if word == "exists":
            await self._memory.note_believed(domain.name)
        elif word == "unknown" and not outspoken(attempt) and not await self._believable(domain, route):
            return Known("unasked", f"the primary denies whomever it is asked about, postmaster too: {said}")
        if word in ("exists", "unknown"):
            self._memory.note(address, word == "exists", "callout")
        return Known(word, f"asked now, {said}")

    async def _believable(self, domain: DomainSettings, route: Route) -> bool:
        """Whether a bare 550 is a no to the recipient. A primary that refuses mail from the null sender (for bounces of
        mail that was never sent, say) denies everybody at RCPT; mail itself it may take. Somebody it must know: RFC
        5321 4.5.1."""
        if await self._memory.believed(domain.name):
            return True
        now = self._clock.monotonic()
        if self._denying.get(domain.name, now) > now:
            return False
        if (others := self._vouching.get(domain.name)) is not None:
            waiting: Deferred[bool] = Deferred()
            others.append(waiting)
            return await waiting
        self._vouching[domain.name] = []
        believable: bool | None = None
        try:
            believable = await self._postmaster(domain, route)
        finally:
            for waiting in self._vouching.pop(domain.name):
                if waiting.called:
                    continue
                if believable is None:
                    waiting.cancel()
                else:
                    waiting.callback(believable)
        return believable

    async def _postmaster(self, domain: DomainSettings, route: Route) -> bool:
        now = self._clock.monotonic()
        postmaster = Address("postmaster", domain.name)
        word, said = _understood(await self._primaries.ask(postmaster, route), postmaster)
        if word == "exists":
            await self._memory.note_believed(domain.name)
            self._denying.pop(domain.name, None)
            return True
        if len(self._denying) >= DENYING:
            # With [domain *] there may be any number of them.
            self._denying.clear()
        self._denying[domain.name] = now + POSTMASTER_SECONDS
        self._tell(domain, "denies_everybody", f"says yes to no question, so that it is not believed; {said}")
        return False

    def _tell(self, domain: DomainSettings, event: str, detail: str) -> None:
        """``event`` is empty when all is well."""
        if event:
            self._journal.record(event, "", {"domain": domain.name, "detail": detail}, level="warning")
        if self._health is not None:
            self._health.noted(f"recipients of {domain.name}", not event, detail)


def _understood(attempt: DeliveryAttempt | None, address: Address) -> tuple[Word | str, str]:
    return ("unreachable", "no primary is there") if attempt is None else answer(attempt, address)
