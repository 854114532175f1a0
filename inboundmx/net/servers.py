"""Several servers of one kind, asked one after the other until one answers.

Knows order, places, deadlines, and when a server has failed so often that it is left alone. Does not know what is said
to a server: ``clamd``, ``spamd``, ``rspamd`` and ``programs`` do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import cycle, islice
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol

from inboundmx.ports import Clock, Health, Unavailable

# After so many failures in a row a server is asked no more often than this, by a message that may have to wait for it.
FAILURES = 5
PROBE_SECONDS = 10.0
# For each place so many may wait; who comes later is told at once that the server is busy.
WAITING = 10

P = TypeVar("P", bound=Protocol)
T = TypeVar("T")
S = TypeVar("S", bound="Service")


class Fault(Unavailable):
    """A server did not do what it is there for: it is refused, silent, cut off or garbled. It counts against it."""


class Service:
    """Whoever is asked, shared by all who ask. ``name`` is what an operator calls it: "clamd /run/clamav/clamd.ctl"."""

    def __init__(self, name: str, clock: Clock, health: Health) -> None:
        self.name = name
        self.places = 1
        self._clock = clock
        self._health = health
        self._about = ""
        self._failures = 0
        self._probe_at = 0.0
        self._trouble = ""
        self._taken = 0
        self._line: deque[Deferred[None]] = deque()

    # --- the breaker --------------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        return self._failures < FAILURES or self._clock.monotonic() >= self._probe_at

    def well(self) -> None:
        self._failures = 0
        self._health.noted(self.name, True, self._about)

    def describe(self, about: str) -> None:
        """What it tells of itself, shown while it is well."""
        self._about = about
        if not self._failures:
            self._health.noted(self.name, True, about)

    def failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures == FAILURES:
            self._probe_at = self._clock.monotonic() + PROBE_SECONDS
        self._trouble = reason
        self._health.noted(self.name, False, reason)

    def tried(self) -> None:
        """It is asked now; if that was a probe, the next one may come later."""
        if self._failures >= FAILURES:
            self._probe_at = self._clock.monotonic() + PROBE_SECONDS

    @property
    def left_alone(self) -> str:
        """Why it is not asked, in words."""
        return f"{self.name} is left alone for now: {self._trouble}"

    # --- places -------------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self._taken >= self.places

    def enter(self) -> Deferred[None]:
        """Fires when there is a place; whoever got one calls ``leave``. Fails with Unavailable when too many wait."""
        if not self.full:
            self._taken += 1
            return succeed(None)
        if len(self._line) >= self.places * WAITING:
            return fail(Unavailable(f"{self.name} is busy"))
        waiting: Deferred[None] = Deferred(self._line.remove)
        self._line.append(waiting)
        return waiting

    def leave(self) -> None:
        if self._line and self._taken <= self.places:
            self._line.popleft().callback(None)
        else:
            self._taken -= 1


class Server(Service):
    """One that is connected to."""

    def __init__(self, kind: str, endpoint: str, reactor: Any, clock: Clock, health: Health) -> None:
        """``endpoint`` is a client string of Twisted's. Raises ValueError."""
        super().__init__(f"{kind} {endpoint.removeprefix('unix:').removeprefix('tcp:')}", clock, health)
        self._endpoint: Any = clientFromString(reactor, endpoint)  # type: ignore[no-untyped-call]

    async def connect(self, protocol: Protocol) -> None:
        """``protocol`` is connected. Raises Fault."""
        self.tried()
        try:
            await self._endpoint.connect(Once(protocol))
        except (CancelledError, ConnectingCancelledError) as error:
            raise CancelledError from error
        except Exception as error:
            raise Fault(f"{self.name} cannot be reached: {_plainly(error)}") from error


class Once(Factory):
    """For one connection, by a protocol that is there already."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, _: Any) -> Protocol:
        return self._protocol


def _plainly(error: Exception) -> str:
    inner = getattr(error, "osError", None) or error
    return str(getattr(inner, "strerror", None) or inner) or type(error).__name__


class Servers(Generic[S]):
    """The servers of one check, in the order to ask them."""

    def __init__(self, servers: Sequence[S], clock: Clock) -> None:
        self._servers = servers
        self._clock = clock

    async def ask(self, talk: Callable[[S], Coroutine[Any, Any, T]], seconds: float, tries: int) -> T:
        """What ``talk`` gave with the first server that answered, within ``seconds`` altogether; each try has its share
        of the time that is left. Raises Unavailable: no server answered, or all are busy or left alone.
        """
        deadline = self._clock.monotonic() + seconds
        trouble = ""
        order = list(self._order(tries))
        for number, server in enumerate(order):
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            try:
                return await self._try(server, talk, left / (len(order) - number))
            except Fault as fault:
                server.failed(fault.reason)
                trouble = fault.reason
            except _Passed as passed:
                trouble = trouble or passed.reason
        raise Unavailable(trouble or self._servers[0].left_alone)

    def _order(self, tries: int) -> Iterator[S]:
        """Those with a free place go first; a server comes up again only after all others."""
        usable = sorted((server for server in self._servers if server.usable), key=lambda server: server.full)
        return islice(cycle(usable), tries)

    async def _try(self, server: S, talk: Callable[[S], Coroutine[Any, Any, T]], seconds: float) -> T:
        deadline = self._clock.monotonic() + seconds
        try:
            await within(self._clock, server.enter(), seconds, f"{server.name} is busy")
        except Unavailable as busy:
            raise _Passed(busy.reason) from busy
        try:
            if not server.usable:
                raise _Passed(server.left_alone)
            left = deadline - self._clock.monotonic()
            answer = await within(
                self._clock, Deferred.fromCoroutine(talk(server)), left, f"{server.name} does not answer"
            )
        finally:
            server.leave()
        server.well()
        return answer


class _Passed(Unavailable):
    """A server was not asked; the next may be."""


async def within(clock: Clock, asked: Deferred[T], seconds: float, trouble: str) -> T:
    """What comes of ``asked``, which is cancelled when the time is over. Raises Fault then."""
    late = False

    def expire() -> None:
        nonlocal late
        late = True
        asked.cancel()

    timer = clock.call_later(max(0.0, seconds), expire)
    try:
        return await asked
    except CancelledError:
        if late:
            raise Fault(trouble) from None
        raise
    finally:
        timer.cancel()
