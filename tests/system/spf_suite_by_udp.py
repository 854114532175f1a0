"""Runs the suite of RFC 7208 over real sockets: a name server for each of its zones, our resolver, one reactor.

Prints what is not as the suite asks, as JSON. Run as a program, for it starts the reactor, with ``tests`` on the path.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

import dns.name
from fakes.name_server import NameServer
from fakes.rfc7208_suite import Case, cases
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from inboundmx.checks.questions import Questions
from inboundmx.checks.spf_replay import evaluate
from inboundmx.net.chance import SystemChance
from inboundmx.net.clock import ReactorClock
from inboundmx.net.dns_transport import Server
from inboundmx.net.resolver import DnsResolver

reactor: Any = real_reactor


class Stand:
    """One port, by UDP and TCP, behind which the server of each case stands in turn."""

    def __init__(self) -> None:
        self.server = NameServer()
        tcp = reactor.listenTCP(0, Factory.forProtocol(lambda: Tcp(self)), interface="127.0.0.1")  # type: ignore[arg-type]
        self.port = tcp.getHost().port
        reactor.listenUDP(self.port, Udp(self), interface="127.0.0.1")


class Udp(DatagramProtocol):
    def __init__(self, stand: Stand) -> None:
        self.stand = stand

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        for packet in self.stand.server.reply(datagram):
            self.transport.write(packet, addr)  # type: ignore[union-attr]


class Tcp(Protocol):
    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.buffer = b""

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 2 and len(self.buffer) >= (size := 2 + struct.unpack("!H", self.buffer[:2])[0]):
            query, self.buffer = self.buffer[2:size], self.buffer[size:]
            for packet in self.stand.server.reply(query, "tcp"):
                self.transport.write(struct.pack("!H", len(packet)) + packet)  # type: ignore[union-attr]


def as_shown(name: str) -> str:
    """A name with what dnspython escapes escaped, as the server will look for it."""
    labels = [label.encode() for label in name.split(".") if label]
    return dns.name.Name(labels).to_text(omit_final_dot=True)


async def run(case: Case, stand: Stand) -> tuple[str, str]:
    # Every second server cuts what it says by UDP, so that TCP has its share.
    zone = {as_shown(name): rows for name, rows in case.zone.items()}
    stand.server = NameServer(zone, "truncated" if len(case.name) % 2 else "")
    servers = [Server("127.0.0.1", stand.port)]
    resolver = DnsResolver(reactor, ReactorClock(reactor), SystemChance(), servers, 5.0)
    questions = Questions(resolver)
    try:
        return await evaluate(questions, case.ip, case.sender, case.hello, "mx.gateway.example")
    finally:
        questions.close()
        resolver.close()


async def main() -> None:
    stand = Stand()
    wrong = []
    asked = 0
    for case in cases():
        outcome, explanation = await run(case, stand)
        explained = case.explanation in (None, "DEFAULT", explanation)
        # Rows come in any order, and equal ones once: what the suite permits is as good as what it prefers.
        if outcome not in case.results or not explained:
            wrong.append([case.name, outcome, explanation, case.results, case.explanation])
        asked = max(asked, len(stand.server.asked))
    print(json.dumps({"cases": len(cases()), "wrong": wrong, "most_asked": asked}))


def ended(result: Any) -> None:
    if result is not None:
        result.printTraceback(sys.stderr)
    reactor.stop()


reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addBoth(ended))
reactor.run()
