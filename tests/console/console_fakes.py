"""A console in memory: the test is whoever asks."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

from fakes.clock import FakeClock
from fakes.smtp_wire import Wire
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from inboundmx.console.routes import Facts
from inboundmx.console.server import ConsoleService
from inboundmx.model.settings import ConsoleSettings, GatewaySettings, Settings

PASSWORD = ConsoleSettings(username="ann", password="s3cret")
GATEWAY = GatewaySettings(hostname="mx.gateway.example", hostnames={"192.0.2.2": "mx2.gateway.example"})
STATUS = {
    "running": True,
    "spool": {"active": 7, "held": 2, "quarantined": 1, "expired": 0},
    "queues": {"a.example": {"later": 3, "due": 1, "running": 1}, "b.example": {"later": 0, "due": 2, "running": 0}},
    "primaries": [{"host": "192.0.2.10:25", "state": "closed", "last_error": "", "connections": 2}],
    "connections": 7,
    "settings": "abc",
}
OURS = ("127.0.0.1", "127.0.0.1")


def basic(username: str, password: str) -> str:
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


class Heard:
    """A whole answer."""

    def __init__(self, octets: bytes) -> None:
        head, _, self.content = octets.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        self.version, code, self.reason = first.split(" ", 2)
        self.code = int(code)
        self.fields = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        assert len(self.fields) == len(fields)

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def facts(self) -> Any:
        return json.loads(self.content)


class Line:
    """The asker's end of one connection."""

    def __init__(self, console: Console, protocol: Any, wire: Any) -> None:
        self.console = console
        self.protocol = protocol
        self.wire = wire
        self.gone = False

    def says(self, octets: bytes) -> Line:
        if not (self.gone or self.wire.aborted):
            self.protocol.dataReceived(octets)
        self.settle()
        return self

    def settle(self) -> None:
        """The transport tells that it is gone, as it does with the next turn of the reactor."""
        if self.wire.disconnecting and not self.gone:
            self.hangs_up(ConnectionAborted() if self.wire.aborted else ConnectionDone())

    def hangs_up(self, why: Exception | None = None) -> None:
        self.gone = True
        self.protocol.connectionLost(Failure(why or ConnectionDone()))

    @property
    def heard(self) -> Heard:
        return Heard(self.wire.value())


class Console:
    """``record`` makes it the journal as well."""

    def __init__(self, console: ConsoleSettings = PASSWORD) -> None:
        self.clock = FakeClock()
        self.settings = replace(Settings(gateway=GATEWAY), console=console)
        self.status: Any = STATUS
        self.trouble = ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.service = ConsoleService(lambda: self.settings, self.clock)
        self.service.start(Facts(self.tell, lambda: self.trouble), self)

    def tell(self) -> Any:
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        self.events.append((event, fields))

    def connect(self, client: str = "127.0.0.1", local: str = "127.0.0.1") -> Line | None:
        made = IPv6Address if ":" in client else IPv4Address
        protocol = self.service.factory.buildProtocol(made("TCP", client, 40000))
        if protocol is None:
            return None
        wire: Any = Wire(made("TCP", local, 9998), made("TCP", client, 40000))
        line = Line(self, protocol, wire)
        protocol.makeConnection(wire)
        return line

    def ask(
        self, path: str, *fields: str, method: str = "GET", version: str = "1.1", host: str | None = "localhost:9998",
        ends: tuple[str, str] = OURS,
    ) -> Heard:  # fmt: skip
        line = self.connect(*ends)
        assert line is not None
        said = [f"{method} {path} HTTP/{version}", *([] if host is None else [f"Host: {host}"]), *fields]
        line.says("".join(f"{each}\r\n" for each in said).encode() + b"\r\n")
        assert line.gone and not line.wire.aborted
        return line.heard

    def status_of(self, password: str = "s3cret", client: str = "192.0.2.9") -> Heard:
        return self.ask("/api/status", f"Authorization: {basic('ann', password)}", ends=(client, "192.0.2.1"))
