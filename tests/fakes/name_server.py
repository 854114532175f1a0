"""A name server for tests, whose answers dnspython writes, and a network in memory to reach it by.

The server is for real sockets as well: it turns octets into octets, and misbehaves as it is told.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from fakes.resolver import FakeResolver, Zone
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from inboundmx.ports import Unavailable

TTL, NEGATIVE_TTL = 300, 60


class NameServer:
    """``mode``: empty, ``silent``, ``servfail``, ``refused``, ``referral``, ``garbage`` (a proper id and question, then
    nonsense), ``truncated`` (by UDP), ``plain`` (knows no EDNS), ``poisoned`` (forged answers before the real one),
    ``forged`` (nothing but forged ones), ``unreachable``, ``listall`` (every address is listed), ``error255`` (a list
    that says it does not answer us).

    ``asked``: name, type and transport of each query. ``dead``: names below which nothing is answered.
    """

    def __init__(
        self, zone: Zone | None = None, mode: str = "", *, ttl: int = TTL, delay: float = 0.0, dead: Sequence[str] = ()
    ) -> None:
        self._zone = FakeResolver(zone)
        self.mode = mode
        self.ttl = ttl
        self.delay = delay
        self.dead = tuple(dead)
        self.asked: list[tuple[str, str, str]] = []
        self.queries: list[bytes] = []

    def reply(self, octets: bytes, transport: str = "udp") -> list[bytes]:
        """The messages that come back."""
        query = dns.message.from_wire(octets)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype), transport))
        self.queries.append(octets)
        if self.mode == "silent" or name.endswith(self.dead):
            return []
        answer = self._reply(query, question, name)
        if self.mode == "truncated" and transport == "udp":
            cut = dns.message.make_response(query)
            cut.flags |= dns.flags.TC
            answer = cut
        wire = answer.to_wire(max_size=65535)
        if self.mode == "garbage":
            return [wire[: 12 + len(question.name.to_wire() or b"") + 4] + b"\xc0\xff" * 9]
        if self.mode in ("poisoned", "forged"):
            wrong_id = bytes([wire[0] ^ 1]) + wire[1:]
            other = dns.message.make_query("other.test", "A")
            other.id = query.id
            forged = [b"", b"\x00", wrong_id, octets, dns.message.make_response(other).to_wire()]
            return [*forged, wire] if self.mode == "poisoned" else forged
        return [wire]

    def _reply(self, query: Any, question: Any, name: str) -> Any:
        if self.mode == "plain" and query.edns >= 0:
            answer = dns.message.Message(query.id)
            answer.flags = dns.flags.QR
            answer.set_rcode(dns.rcode.FORMERR)
            return answer
        answer = dns.message.make_response(query, recursion_available=True)
        if self.mode in ("servfail", "refused"):
            answer.set_rcode(dns.rcode.from_text(self.mode.upper()))
        elif self.mode == "referral":
            answer.authority.append(_rows(dns.name.from_text("test"), TTL, "NS", ["ns.test."]))
        elif self.mode in ("listall", "error255"):
            code = "127.0.0.2" if self.mode == "listall" else "127.255.255.254"
            answer.answer.append(_rows(question.name, self.ttl, "A", [code]))
        else:
            self._fill(answer, question, name)
        return answer

    def _fill(self, answer: Any, question: Any, name: str) -> None:
        """From the zone; a chain of aliases whole, as a recursive server gives it."""
        type = dns.rdatatype.to_text(question.rdtype)
        owner = question.name
        zone = self._zone.zone
        try:
            found = self._zone._answer(name.lower(), type)
        except Unavailable:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return
        known = zone.get(name.lower())
        while isinstance(known, dict) and "CNAME" in known and type not in known:
            target = known["CNAME"][0]
            answer.answer.append(_rows(owner, self.ttl, "CNAME", [f"{target}."]))
            owner = dns.name.from_text(target)
            known = zone.get(target.lower())
        if found.rows:
            answer.answer.append(_rows(owner, self.ttl, type, [_written(type, row) for row in found.rows]))
        else:
            if not found.exists:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            soa = f"ns.test. root.test. 1 3600 600 86400 {NEGATIVE_TTL}"
            answer.authority.append(_rows(dns.name.from_text("test"), TTL, "SOA", [soa]))


def _rows(owner: Any, ttl: int, type: str, rows: Sequence[str]) -> Any:
    return dns.rrset.from_text_list(owner, ttl, dns.rdataclass.IN, type, rows)


def _written(type: str, row: Any) -> str:
    if type == "TXT":
        parts = [row[at : at + 255] for at in range(0, len(row), 255)] or [b""]
        return " ".join('"' + "".join(f"\\{octet:03d}" for octet in part) + '"' for part in parts)
    if type == "MX":
        return f"{row[0]} {row[1]}."
    if type in ("PTR", "CNAME", "NS"):
        return f"{row}."
    return str(row)


class Network(Clock):
    """What the resolver needs of a reactor: time, UDP and TCP. ``servers`` by (address, port)."""

    def __init__(self, **servers: NameServer) -> None:
        super().__init__()
        self.servers: dict[tuple[str, int], NameServer] = {}
        self.sockets: list[_UdpPort] = []
        self.connections: list[_Connector] = []

    @property
    def open(self) -> int:
        """Sockets and connections that are."""
        return sum(port.open for port in self.sockets) + sum(each.open for each in self.connections)

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> _UdpPort:
        made = _UdpPort(self, protocol)
        self.sockets.append(made)
        protocol.makeConnection(made)
        return made

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float) -> _Connector:
        made = _Connector(self, (host, port), factory)
        self.connections.append(made)
        self.callLater(0, made.begin)
        return made


class _UdpPort:
    def __init__(self, network: Network, protocol: Any) -> None:
        self.network = network
        self.protocol = protocol
        self.open = True
        self.peer = ("", 0)

    def connect(self, host: str, port: int) -> None:
        self.peer = (host, port)

    def write(self, octets: bytes) -> None:
        server = self.network.servers.get(self.peer)
        if server is None:
            raise OSError(101, "Network is unreachable")
        if server.mode == "unreachable":
            self.network.callLater(0, self.lose)
            return
        for packet in server.reply(octets):
            self.network.callLater(server.delay, self.receive, packet, self.peer)

    def receive(self, packet: bytes, source: tuple[str, int]) -> None:
        if self.open:
            self.protocol.datagramReceived(packet, source)

    def lose(self) -> None:
        """As Twisted does after an ICMP error, or some time after ``stopListening``."""
        if self.protocol.transport is self:
            self.open = False
            self.protocol.transport = None
            self.protocol.stopProtocol()

    def stopListening(self) -> None:
        self.open = False
        self.network.callLater(0, self.lose)


class _Connector:
    """A TCP connection whose answers come an octet, and then the rest."""

    def __init__(self, network: Network, peer: tuple[str, int], factory: Any) -> None:
        self.network = network
        self.peer = peer
        self.factory = factory
        self.protocol: Any = None
        self.open = True

    def begin(self) -> None:
        if not self.open:
            return
        server = self.network.servers.get(self.peer)
        if server is None or server.mode == "unreachable":
            self.open = False
            self.factory.clientConnectionFailed(self, Failure(Refused()))
            return
        self.protocol = self.factory.buildProtocol(None)
        self.protocol.makeConnection(self)

    def write(self, octets: bytes) -> None:
        server = self.network.servers[self.peer]
        assert struct.unpack("!H", octets[:2])[0] == len(octets) - 2
        for packet in server.reply(octets[2:], "tcp"):
            stream = struct.pack("!H", len(packet)) + packet
            for part in (stream[:1], stream[1:20], stream[20:]):
                self.network.callLater(server.delay, self.receive, part)

    def receive(self, octets: bytes) -> None:
        if self.open:
            self.protocol.dataReceived(octets)

    def disconnect(self) -> None:
        if self.open:
            self.open = False
            if self.protocol is not None:
                self.protocol.connectionLost(Failure(Refused()))

    hang_up = disconnect
