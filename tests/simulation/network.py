"""Time and a TCP network in memory: one heap of events, wires that delay octets, hosts that can be cut off.

Knows nothing of mail. Everything random comes from one generator, so a seed replays exactly.
"""

from __future__ import annotations

import heapq
import random
from itertools import count
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError, UserError
from twisted.python.failure import Failure

START = 1_800_000_000.0


class Timer:
    __slots__ = ("arguments", "call")

    def __init__(self, call, arguments):
        self.call = call
        self.arguments = arguments

    def cancel(self):
        self.call = None


class Time:
    """Runs what is due, in order. ``jumped`` is how far the wall clock has been put off; ``after`` is called after so
    many moments of a life, each of which is the end of a wait somewhere in the gateway."""

    def __init__(self):
        self.at = 0.0
        self.moments = 0
        self._after = {}
        self.jumped = 0.0
        self._heap = []
        self._numbers = count()

    def later(self, seconds, call, *arguments):
        timer = Timer(call, arguments)
        heapq.heappush(self._heap, (self.at + max(0.0, seconds), next(self._numbers), timer))
        return timer

    def after(self, moments, call):
        self._after[self.moments + moments] = call

    def passed(self):
        """One more moment."""
        self.moments += 1
        if self._after and (call := self._after.pop(self.moments, None)) is not None:
            call()

    def timers_of(self, life):
        """How many a process has running."""
        return sum(timer.call == life._call for _, _, timer in self._heap)

    def run(self, until):
        heap = self._heap
        while heap and heap[0][0] <= until:
            at, _, timer = heapq.heappop(heap)
            if timer.call is None:
                continue
            self.at = at
            call, timer.call = timer.call, None
            call(*timer.arguments)
        self.at = until


class Life:
    """One process: its clock, and its end of the network, as a reactor has it. Once dead it neither hears nor calls."""

    def __init__(self, time: Time, network: Network, ip: str):
        self.alive = True
        self.ip = ip
        self.time = time
        self.network = network

    # ports.Clock

    def now(self):
        return START + self.time.at + self.time.jumped

    def monotonic(self):
        return self.time.at

    def call_later(self, seconds, call, *arguments):
        return self.time.later(seconds, self._call, call, arguments)

    def _call(self, call, arguments):
        if self.alive:
            call(*arguments)
            self.time.passed()

    # what endpoints ask of a reactor

    def connectTCP(self, host, port, factory, timeout=30, bindAddress=None):
        connector = Connector(factory)
        factory.doStart()
        factory.startedConnecting(connector)
        self.network.dial(self, host, port, connector, timeout)
        return connector


class Connector:
    def __init__(self, factory):
        self.factory = factory
        self.over = False

    def failed(self, error):
        if not self.over:
            self.over = True
            self.factory.clientConnectionFailed(self, Failure(error))

    def stopConnecting(self):
        self.failed(UserError())

    disconnect = stopConnecting

    def getDestination(self):
        return None


class End:
    """One end of a wire: a transport. What it writes arrives at the other end, in order, a little later."""

    def __init__(self, network: Network, life: Life | None, here, there):
        self.network = network
        self.life = life
        self.protocol: Any = None
        self.other: End | None = None
        self.disconnecting = False
        self._here, self._there = here, there
        self._arrives = 0.0
        self._lost = False
        self._paused = False
        self._waiting: list[bytes] = []

    @property
    def dead(self):
        return self._lost or (self.life is not None and not self.life.alive)

    def write(self, octets):
        if not self.disconnecting and not self.dead and octets:
            self._send(self.other._comes, bytes(octets))

    def loseConnection(self):
        if not self.disconnecting and not self.dead:
            self.disconnecting = True
            self._send(self.other.lost, ConnectionDone())
            self.network.time.later(0.0, self.lost, ConnectionDone())

    def abortConnection(self):
        if not self._lost:
            self.disconnecting = True
            self._send(self.other.lost, ConnectionLost())
            self.network.time.later(0.0, self.lost, ConnectionLost())

    def cut(self):
        """The wire is gone, without a word to this end."""
        self._lost = True

    def _send(self, call, argument):
        time = self.network.time
        self._arrives = max(self._arrives, time.at + self.network.delay())
        time.later(self._arrives - time.at, call, argument)

    def _comes(self, octets):
        if self.dead:
            return
        if self._paused:
            self._waiting.append(octets)
        else:
            self.network.passed(self, octets)
            self.protocol.dataReceived(octets)
            if self.life is not None:
                self.network.time.passed()

    def lost(self, error):
        if not self._lost:
            alive = not self.dead
            self._lost = True
            self.disconnecting = True
            if alive:
                self.protocol.connectionLost(Failure(error))

    def pauseProducing(self):
        self._paused = True

    def resumeProducing(self):
        self._paused = False
        waiting, self._waiting = self._waiting, []
        for octets in waiting:
            self._comes(octets)

    def registerProducer(self, producer, streaming):
        pass

    def unregisterProducer(self):
        pass

    def setTcpNoDelay(self, enabled):
        pass

    def getPeer(self):
        return self._there

    def getHost(self):
        return self._here


class Network:
    """``hosts`` by (ip, port): an object with ``reachable`` (``up``, ``down``, ``silent``) and ``protocol()``.
    ``passed`` is told of octets when they arrive, and of the end they arrive at."""

    def __init__(self, time: Time, chance: random.Random):
        self.time = time
        self.chance = chance
        self.hosts: dict[tuple[str, int], Any] = {}
        self.passed = lambda end, octets: None
        self._ends: list[End] = []

    def delay(self):
        return self.chance.choice((0.0005, 0.0005, 0.002, 0.02))

    def dial(self, life, ip, port, connector, timeout):
        host = self.hosts.get((ip, port))
        if host is None or host.reachable == "down":
            life.call_later(self.delay(), connector.failed, ConnectionRefusedError())
        elif host.reachable == "silent":
            life.call_later(timeout, connector.failed, TimeoutError())
        else:
            self.time.later(self.delay(), self._answered, life, ip, port, host, connector)

    def _answered(self, life, ip, port, host, connector):
        if connector.over or not life.alive:
            return
        connector.over = True
        here, there = IPv4Address("TCP", life.ip, 40000), IPv4Address("TCP", ip, port)
        ours = End(self, life, here, there)
        theirs = End(self, None, there, here)
        self.join(ours, connector.factory.buildProtocol(there), theirs, host.protocol())

    def join(self, one, protocol, other, other_protocol):
        one.other, other.other = other, one
        one.protocol, other.protocol = protocol, other_protocol
        self._ends = [end for end in self._ends if not end.dead] + [one, other]
        other_protocol.makeConnection(other)
        protocol.makeConnection(one)

    def open_of(self, life):
        """Wires that a process has."""
        return sum(end.life is life and not end.dead for end in self._ends)

    def kill(self, life):
        """A process died: the other ends of its wires hear of it."""
        life.alive = False
        for end in self._ends:
            if end.life is life:
                end.cut()
                end._send(end.other.lost, ConnectionLost())
