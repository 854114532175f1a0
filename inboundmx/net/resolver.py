"""``ports.Resolver``: asks recursive name servers, remembers what they said, and knows when they say nothing.

Knows servers in order, repeats within one deadline, equal questions asked once, breakers, and the cache. Does not know
octets (``dns_codec``) nor sockets (``dns_transport``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred

from inboundmx.net import dns_codec
from inboundmx.net.dns_cache import Cache
from inboundmx.net.dns_transport import Line, Server, Try
from inboundmx.ports import Answer, Chance, Clock, Health, Timer, Unavailable

# Seconds an answer is kept at least and at most, whatever its TTL; nothing being there, shorter (RFC 2308 7).
SHORTEST, LONGEST, LONGEST_NEGATIVE = 5, 3 * 3600, 900
# So long a question that nobody could answer is not asked again (RFC 9520 asks for 1 s to 5 min).
FAILURE_SECONDS = 5.0
# Different questions under way; past it look-ups are Unavailable at once.
IN_FLIGHT_LIMIT = 1000
# Messages sent for one question, and how often a chain of aliases is asked on about, at most.
SENDS_LIMIT, HOPS_LIMIT = 6, 4
# So many silences of a server running bring a probe. A stranger may own names whose servers are silent, so they alone
# do not condemn ours: it must be silent about the root, too, for so many seconds.
SILENCES, PROBE_SECONDS = 3, 2.0
# So long a dead server is left alone between probes; no look-up waits for those.
REST_SECONDS = 5.0
# What an answer takes in memory beside its octets, about.
ENTRY_OCTETS = 400

Key: TypeAlias = tuple[str, str]
NOWHERE = Answer((), exists=False)


class DnsResolver:
    """``timeout``: seconds for one look-up, all tries together. ``health`` is told of servers that fall silent and of
    those that answer again.
    """

    def __init__(
        self,
        reactor: Any,
        clock: Clock,
        chance: Chance,
        servers: Sequence[Server],
        timeout: float,
        health: Health | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._chance = chance
        self._health = health
        self._timeout = timeout
        self._peers = [self._peer(server) for server in servers]
        self._cache: Cache[Answer | Unavailable] = Cache()
        self._questions: dict[Key, _Question] = {}
        self._closed = False

    def configure(self, servers: Sequence[Server], timeout: float) -> None:
        """New settings. What other servers said is forgotten."""
        self._timeout = timeout
        known = {peer.server: peer for peer in self._peers}
        if list(known) == list(servers):
            return
        self._peers = [known.get(server) or self._peer(server) for server in servers]
        for peer in known.values():
            if peer not in self._peers:
                self._dismiss(peer, "no name server answers")
        self._cache = Cache()

    def close(self) -> None:
        """What is under way is Unavailable, and so is all that is asked from now on."""
        self._closed = True
        for peer in self._peers:
            self._dismiss(peer, "stopping")

    def _peer(self, server: Server) -> _Peer:
        return _Peer(Line(self._reactor, self._chance, server))

    # --- asking -------------------------------------------------------------------------------------------------------

    async def look_up(self, name: str, type: str) -> Answer:
        key = (name.lower().removesuffix("."), type)
        known = self._cache.get(key, self._clock.monotonic())
        if known is None:
            waiter: Deferred[Answer] = Deferred()
            if (known := self._ask(key, waiter)) is None:
                return await waiter
        if isinstance(known, Answer):
            return known
        raise Unavailable(known.reason)

    def _ask(self, key: Key, waiter: Deferred[Answer]) -> Answer | Unavailable | None:
        """None: ``waiter`` fires, or has already."""
        running = self._questions.get(key)
        if running is not None:
            running.waiters.append(waiter)
            return None
        section = dns_codec.question(*key) if key[0] else None
        if section is None:
            return NOWHERE
        if self._closed:
            return Unavailable("stopping")
        if len(self._questions) >= IN_FLIGHT_LIMIT:
            return Unavailable("too many DNS questions under way")
        plan = self._plan()
        if not plan:
            return Unavailable("no name server answers")
        question = _Question(key, section, plan, self._clock.monotonic() + self._timeout)
        question.waiters.append(waiter)
        self._questions[key] = question
        self._go_on(question)
        return None

    def _plan(self) -> list[_Peer]:
        """Whom to ask, in order: the living, each a second time, a single one thrice. Dead ones that have rested are
        probed meanwhile."""
        now = self._clock.monotonic()
        living = []
        for peer in self._peers:
            if peer.alive:
                living.append(peer)
            elif peer.probe is None and now >= peer.rests_until:
                self._probe(peer)
        return (living * 3)[: max(3, 2 * len(living))][:SENDS_LIMIT]

    def _go_on(self, question: _Question) -> None:
        """Asks the next server of the plan, and sets the time after which the one after it is asked; earlier tries may
        still answer. With nobody left to answer, gives up."""
        if question.over:
            return
        question.stop_timer()
        left = question.ends_at - self._clock.monotonic()
        if left <= 0 or not (question.plan or question.tries):
            self._give_up(question)
        elif not question.plan:
            question.timer = self._clock.call_later(left, self._silent, question)
        else:
            # The waits grow: of three the first is a sixth of the time, the second a third.
            question.sends += 1
            shares = range(question.sends, question.sends + len(question.plan))
            question.timer = self._clock.call_later(left * shares[0] / sum(shares), self._silent, question)
            question.latest = peer = question.plan.pop(0)
            attempt = _Attempt(self, question, peer)
            question.tries.append(attempt)
            peer.line.by_udp(attempt)

    # --- what comes ---------------------------------------------------------------------------------------------------

    def heard(self, attempt: _Attempt, packet: bytes) -> None:
        question, peer = attempt.about, attempt.peer
        question.tries.remove(attempt)
        self._lives(peer)
        if question.probed is not None:
            self._end(question)
        elif dns_codec.truncated(packet) and not attempt.stream:
            again = _Attempt(self, question, peer, stream=True)
            question.tries.append(again)
            peer.line.by_tcp(again, max(question.ends_at - self._clock.monotonic(), 0.001))
        else:
            try:
                reply = dns_codec.read(packet, question.section)
            except dns_codec.Failure as failure:
                if question.extended and failure.rcode in (dns_codec.FORMAT_ERROR, dns_codec.BAD_VERSION):
                    # It may be so old that it knows no EDNS (RFC 6891 7).
                    question.extended = False
                    question.plan.insert(0, peer)
                    self._go_on(question)
                else:
                    self._no_answer(question, peer, f"{failure} from {peer.server}")
            except dns_codec.Malformed as trouble:
                self._no_answer(question, peer, f"garbage from {peer.server}: {trouble}")
            else:
                self._understood(question, reply, len(packet))

    def failed(self, attempt: _Attempt, reason: str) -> None:
        question, peer = attempt.about, attempt.peer
        question.tries.remove(attempt)
        self._missed(question, peer)
        self._no_answer(question, peer, f"{reason}: {peer.server}")

    def _silent(self, question: _Question) -> None:
        """The time of the latest try is over."""
        peer = question.latest
        if peer is not None and any(attempt.peer is peer for attempt in question.tries):
            question.reason = f"no answer in time from {peer.server}"
            self._missed(question, peer)
        self._go_on(question)

    def _no_answer(self, question: _Question, peer: _Peer, reason: str) -> None:
        """This server will not answer this; the next one may."""
        question.reason = reason
        question.plan = [other for other in question.plan if other is not peer]
        self._go_on(question)

    def _understood(self, question: _Question, reply: dns_codec.Reply, octets: int) -> None:
        if reply.ttl is not None:
            question.ttl = reply.ttl if question.ttl is None else min(question.ttl, reply.ttl)
        question.octets += octets
        answer = reply.answer
        if answer is None:
            question.forget_tries()
            question.hops += 1
            if question.hops > HOPS_LIMIT:
                self._end(question, Unavailable("a chain of aliases without end"), FAILURE_SECONDS)
                return
            section = dns_codec.question(reply.alias, question.key[1]) if reply.alias else None
            if section is not None:
                question.section, question.sends, question.plan = section, 0, self._plan()
                self._go_on(question)
                return
            answer = NOWHERE
        keep = min(max(question.ttl or 0, SHORTEST), LONGEST if answer.rows else LONGEST_NEGATIVE)
        self._end(question, answer, keep)

    # --- the end of a question ----------------------------------------------------------------------------------------

    def _give_up(self, question: _Question) -> None:
        peer = question.probed
        if peer is None:
            self._end(question, Unavailable(question.reason), FAILURE_SECONDS)
            return
        self._end(question)
        # Silent about the root as well, unless something else was heard from it meanwhile.
        if peer.silences or not peer.alive:
            self._dies(peer)

    def _end(self, question: _Question, result: Answer | Unavailable | None = None, keep: float = 0.0) -> None:
        if question.over:
            return
        question.over = True
        question.stop_timer()
        question.forget_tries()
        question.plan.clear()
        if question.probed is not None:
            question.probed.probe = None
        if result is None:
            return
        del self._questions[question.key]
        if keep:
            until = self._clock.monotonic() + keep
            self._cache.put(question.key, result, until, ENTRY_OCTETS + 4 * question.octets)
        waiters, question.waiters = question.waiters, []
        for waiter in waiters:
            if isinstance(result, Unavailable):
                waiter.errback(Unavailable(result.reason))
            else:
                waiter.callback(result)

    # --- how servers are doing ----------------------------------------------------------------------------------------

    def _missed(self, question: _Question, peer: _Peer) -> None:
        """It was silent, or could not be reached."""
        peer.silences += 1
        if question.probed is None and peer.silences >= SILENCES and peer.alive and peer.probe is None:
            self._probe(peer)

    def _probe(self, peer: _Peer) -> None:
        """Asks about the root, which every server answers somehow; nobody waits for it."""
        section = dns_codec.question("", "NS")
        assert section is not None
        peer.probe = _Question(("", "NS"), section, [peer, peer], self._clock.monotonic() + PROBE_SECONDS, peer)
        self._go_on(peer.probe)

    def _lives(self, peer: _Peer) -> None:
        peer.silences = 0
        if not peer.alive or not peer.known:
            peer.alive = peer.known = True
            self._note(peer, True, "answers")

    def _dies(self, peer: _Peer) -> None:
        peer.rests_until = self._clock.monotonic() + REST_SECONDS
        if peer.alive:
            peer.alive = False
            peer.known = True
            self._note(peer, False, "does not answer")
            self._leave(peer, "no name server answers")
            # The next probe tries a socket of its own.
            peer.line.close()

    def _leave(self, peer: _Peer, reason: str) -> None:
        """No question waits for this server any longer."""
        for question in tuple(self._questions.values()):
            waited = any(attempt.peer is peer for attempt in question.tries)
            question.forget_tries(peer)
            question.plan = [other for other in question.plan if other is not peer]
            if waited and not question.over and not question.tries:
                question.reason = reason
                self._go_on(question)

    def _dismiss(self, peer: _Peer, reason: str) -> None:
        peer.alive = False
        if peer.probe is not None:
            self._end(peer.probe)
        self._leave(peer, reason)
        peer.line.close()

    def _note(self, peer: _Peer, well: bool, detail: str) -> None:
        if self._health is not None:
            self._health.noted(f"dns {peer.server}", well, detail)


class _Peer:
    """One server and how it is doing. ``probe``: the question about the root that is under way."""

    __slots__ = ("alive", "known", "line", "probe", "rests_until", "server", "silences")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.server = line.server
        self.alive = True
        self.known = False
        self.silences = 0
        self.probe: _Question | None = None
        self.rests_until = 0.0


class _Question:
    """A question under way. ``plan``: the servers yet to be asked, in order; ``tries``: the queries that may still be
    answered; ``section``: what is asked now, the alias where a chain is followed; ``probed``: the server whose probe
    it is."""

    __slots__ = (
        *("ends_at", "extended", "hops", "key", "latest", "octets", "over", "plan", "probed", "reason", "section"),
        *("sends", "timer", "tries", "ttl", "waiters"),
    )

    def __init__(
        self, key: Key, section: bytes, plan: list[_Peer], ends_at: float, probed: _Peer | None = None
    ) -> None:
        self.key = key
        self.section = section
        self.plan = plan
        self.ends_at = ends_at
        self.probed = probed
        self.waiters: list[Deferred[Answer]] = []
        self.tries: list[_Attempt] = []
        self.latest: _Peer | None = None
        self.timer: Timer | None = None
        self.sends = self.hops = self.octets = 0
        self.ttl: int | None = None
        self.extended = True
        self.over = False
        self.reason = "no name server answers"

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def forget_tries(self, peer: _Peer | None = None) -> None:
        """All, or those at one server."""
        for attempt in tuple(self.tries):
            if peer is None or attempt.peer is peer:
                self.tries.remove(attempt)
                attempt.forget()


class _Attempt(Try):
    __slots__ = ("_resolver", "about", "peer", "stream")

    def __init__(self, resolver: DnsResolver, about: _Question, peer: _Peer, stream: bool = False) -> None:
        super().__init__(about.section, about.extended)
        self._resolver = resolver
        self.about = about
        self.peer = peer
        self.stream = stream

    def heard(self, packet: bytes) -> None:
        self._resolver.heard(self, packet)

    def failed(self, reason: str) -> None:
        self._resolver.failed(self, reason)
