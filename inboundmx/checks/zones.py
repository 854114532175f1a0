"""Lists in DNS, looked after: which of them may be believed now (RFC 5782 5).

Knows that a list may be dead, list the world, or say by a code that it does not answer us; how its test points show it;
and that who asks a dead list again and again waits again and again. Does not know what a list says of whom, nor what
that is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from inboundmx.checks.reverse import reversed_labels
from inboundmx.model.ip import IP, ip_of
from inboundmx.ports import Clock, Health, Resolver, Timer, Unavailable

Network = IPv4Network | IPv6Network

CODES = IPv4Network("127.0.0.0/8")
# Clients that no public list knows, and that are nobody else's business: RFC 1918, 6598, 3927, 4193, loopback.
NOT_ASKED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
# So many questions in a row that a list did not answer rightly, and nobody asks it any more but its probe.
FAILURES = 5
# Seconds from a probe to the next: of a list that is well, of one that fails its test, of one that is silent, which
# is given twice as long each time, up to a minute.
PASSED_SECONDS, FAILED_SECONDS, SILENT_SECONDS, SILENT_LONGEST = 3600.0, 300.0, 5.0, 60.0
# A list whose answers are odd is probed before its time, but not more often.
DOUBTED_SECONDS = 60.0
# How many addresses of our own are asked about.
OWN = 5
# Of the time somebody has, what has gone by when it is over: it is counted from a moment before.
NEARLY = 0.99


class Point(NamedTuple):
    """Something a list can be asked about: what people call it, and the labels in front of the zone."""

    shown: str
    labels: str


def point(address: IP) -> Point:
    return Point(str(address), reversed_labels(address))


# Each is listed, and not listed: of a list of IPv4 addresses, of one of IPv6 addresses alone, of one of names.
ADDRESSES = (
    (point(IPv4Address("127.0.0.2")), point(IPv4Address("127.0.0.1"))),
    (point(IPv6Address("::ffff:127.0.0.2")), point(IPv6Address("::ffff:127.0.0.1"))),
)
NAMES = ((Point("TEST", "test"), Point("INVALID", "invalid")),)


class Probe(NamedTuple):
    """What is to be seen of a list before it is believed. ``tests``: of the first pair whose first point it names it
    must not name the second; without any it need only answer. ``clean``: what it must not name. ``ignore``: codes by
    which it says that it does not answer us. ``own``: whether it is asked about our own addresses, to tell of it."""

    zone: str
    tests: tuple[tuple[Point, Point], ...]
    clean: tuple[Point, ...] = ()
    ignore: tuple[Network, ...] = ()
    own: bool = False


class Zones:
    """The lists that checks ask. ``own`` gives our addresses."""

    def __init__(
        self, resolver: Resolver, clock: Clock, health: Health, own: Callable[[], Collection[str]] = frozenset
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._health = health
        self._own = own
        self._zones: dict[Probe, Zone] = {}

    def zone(self, probe: Probe) -> Zone:
        """The same for all who see it with the same eyes."""
        found = self._zones.get(probe)
        if found is None:
            found = self._zones[probe] = Zone(probe, self._resolver, self._clock, self._health, self._own)
        return found

    def keep(self, probes: Iterable[Probe]) -> None:
        """These are in use from now on, and no others: those that are new or suspended are probed at once."""
        kept = dict.fromkeys(probes)
        for probe in [probe for probe in self._zones if probe not in kept]:
            self._zones.pop(probe).stop()
        for probe in kept:
            zone = self.zone(probe)
            if not zone.believed:
                zone.probe()

    def stop(self) -> None:
        for zone in self._zones.values():
            zone.stop()


class Zone:
    """One list. ``suspended``: why it is not believed, empty while it is, None until it was probed for the first time.
    ``detail``: what there is to say of it while it is believed."""

    def __init__(
        self, probe: Probe, resolver: Resolver, clock: Clock, health: Health, own: Callable[[], Collection[str]]
    ) -> None:
        self.name = probe.zone
        self.suspended: str | None = None
        self._about = probe
        self._resolver = resolver
        self._clock = clock
        self._health = health
        self._own = own
        self._failures = 0
        self._silent_seconds = SILENT_SECONDS
        self.detail = "answers"
        self._probed_at = float("-inf")
        self._probing: Deferred[None] | None = None
        self._timer: Timer | None = None
        self._waiting: list[Deferred[None]] = []
        self._over = False

    @property
    def believed(self) -> bool:
        return self.suspended == ""

    async def codes(self, labels: str, seconds: float) -> list[IPv4Address]:
        """What it answers when asked about ``labels``, in order; nothing when it does not name them. ``seconds``: how
        long whoever asks can wait. Raises Unavailable when it gives no answer of a list's, and at once while it is
        suspended. Of a list that was never probed, what it names is said once it was."""
        if self.suspended:
            raise Unavailable(f"suspended: {self.suspended}")
        started = self._clock.monotonic()
        try:
            codes = await self._asked(labels)
        except _Odd as odd:
            self._failed(odd.reason)
            if self._clock.monotonic() >= self._probed_at + DOUBTED_SECONDS:
                self.probe()
            raise
        except Unavailable as trouble:
            self._failed(trouble.reason)
            raise
        except CancelledError:
            # Its time is over, or the client has gone, which says nothing of the list.
            if self._clock.monotonic() - started >= seconds * NEARLY:
                self._failed(f"no answer within {seconds:g} s")
            raise
        self._failures = 0
        if self.believed:
            self._health.noted(self.name, True, self.detail)
        elif codes:
            await self.probed()
        return codes

    async def _asked(self, labels: str) -> list[IPv4Address]:
        answer = await self._resolver.look_up(f"{labels}.{self.name}", "A")
        codes = sorted(map(IPv4Address, answer.rows))
        for code in codes:
            if code not in CODES:
                raise _Odd(f"{self.name} answers {code}, which is no code of a list")
            if any(code in network for network in self._about.ignore):
                raise _Odd(f"{self.name} does not answer us: {code}")
        return codes

    async def probed(self) -> None:
        """Returns when it was probed and is believed. Raises Unavailable."""
        self.probe()
        if self._probing is not None:
            waiting: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            await waiting
        if self.suspended:
            raise Unavailable(f"suspended: {self.suspended}")

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures >= FAILURES and not self.suspended and not self._over:
            self._settle(f"{self._failures} times in a row: {reason}", SILENT_SECONDS)

    # --- the probe ----------------------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Begins one, unless one is under way. Whoever asks meanwhile does not wait."""
        if self._probing is not None or self._over:
            return
        self._forget_timer()
        self._probed_at = self._clock.monotonic()
        # It may be over before it is held.
        self._probing = running = Deferred.fromCoroutine(self._probe())
        if running.called:
            self._probing = None
        running.addErrback(_stopped)

    async def _probe(self) -> None:
        seconds, silent = PASSED_SECONDS, SILENT_SECONDS
        try:
            if trouble := await self._fault():
                seconds = FAILED_SECONDS
        except _Odd as odd:
            trouble, seconds = odd.reason, FAILED_SECONDS
        except Unavailable as silence:
            trouble, seconds = silence.reason, self._silent_seconds
            silent = min(2 * seconds, SILENT_LONGEST)
        self._silent_seconds = silent
        self._probing = None
        self._settle(trouble, seconds)

    async def _fault(self) -> str:
        """Why it is not to be believed; empty when it passes. Raises Unavailable."""
        about = self._about
        if not about.tests:
            await self._asked(ADDRESSES[0][0].labels)
        for listed, absent in about.tests:
            named = await self._asked(listed.labels)
            if await self._asked(absent.labels):
                return f"{self.name} lists everything, even {absent.shown}"
            if named:
                break
        else:
            if about.tests:
                return f"{self.name} lists nothing, not even {about.tests[0][0].shown}"
        for clean in about.clean:
            if await self._asked(clean.labels):
                return f"{self.name} lists {clean.shown}, which is known to be clean"
        self.detail = await self._said_of_us()
        return ""

    async def _said_of_us(self) -> str:
        """It may name us with good reason, and a list of good senders should: this is for the operator to look at."""
        ours = sorted(filter(None, map(public, self._own())), key=str) if self._about.own else []
        try:
            named = [str(each) for each in ours[:OWN] if await self._asked(reversed_labels(each))]
        except Unavailable:
            named = []
        return f"names our own address {' '.join(named)}" if named else "answers"

    def _settle(self, trouble: str, seconds: float) -> None:
        self.suspended, self._failures = trouble, 0
        self._health.noted(self.name, not trouble, f"suspended: {trouble}" if trouble else self.detail)
        self._forget_timer()
        self._timer = self._clock.call_later(seconds, self.probe)
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """It is not probed any more; who has it in hand may go on asking."""
        self._over = True
        self._forget_timer()
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        self._tell()


def _stopped(failure: Failure) -> None:
    failure.trap(CancelledError)  # type: ignore[no-untyped-call]


class _Odd(Unavailable):
    """It answers, but not as a list does."""


def public(text: str) -> IP | None:
    """The address, if lists may be asked about it."""
    address = ip_of(text)
    return None if address is None or any(address in network for network in NOT_ASKED) else address
