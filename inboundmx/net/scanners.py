"""The scanning services checks ask for. Knows which servers there are, and that each is shared; does not know what is
said to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inboundmx.net.clamd import AT_ONCE, ClamdScanner
from inboundmx.net.programs import Program, Programs
from inboundmx.net.rspamd import RspamdScorer
from inboundmx.net.scoring import Scoring
from inboundmx.net.servers import Server
from inboundmx.net.spamd import SpamdScorer
from inboundmx.ports import Clock, Contents, Health, Offload

# Of the time a check has, what is kept back so that the client is heard before the check is given up.
RESERVE = 0.1


class ScanningServices:
    """``ports.Scanners``. A server is one object however many checks, or settings read anew, ask for it: so its places
    are counted once, and what is known of it lasts."""

    def __init__(
        self, reactor: Any, clock: Clock, offload: Offload, contents: Contents, health: Health, programs: Programs
    ) -> None:
        self._programs = programs
        self._reactor = reactor
        self._clock = clock
        self._offload = offload
        self._contents = contents
        self._health = health
        self._servers: dict[tuple[str, str], Server] = {}

    def viruses(self, servers: Sequence[str], max_size: int, seconds: float) -> ClamdScanner:
        found = self.clamds(servers)
        return ClamdScanner(found, self._clock, self._offload, self._contents, max_size, seconds * (1 - RESERVE))

    def clamds(self, servers: Sequence[str]) -> list[Server]:
        return self._found("clamd", servers, AT_ONCE)

    def spam(self, servers: Sequence[str], max_size: int, attempts: int, at_once: int, seconds: float) -> SpamdScorer:
        return SpamdScorer(self._scoring("spamd", servers, max_size, attempts, at_once, seconds))

    def rspamd(
        self, servers: Sequence[str], max_size: int, attempts: int, at_once: int, seconds: float, password: str
    ) -> RspamdScorer:
        return RspamdScorer(self._scoring("rspamd", servers, max_size, attempts, at_once, seconds), password)

    def program(self, argv: Sequence[str], at_once: int, seconds: float) -> Program:
        return self._programs.program(argv, at_once, seconds * (1 - RESERVE))

    def _scoring(
        self, kind: str, servers: Sequence[str], max_size: int, attempts: int, at_once: int, seconds: float
    ) -> Scoring:
        found = self._found(kind, servers, at_once)
        spare = seconds * (1 - RESERVE)
        return Scoring(found, self._clock, self._offload, self._contents, max_size, attempts, spare)

    def _found(self, kind: str, endpoints: Sequence[str], at_once: int) -> list[Server]:
        found = []
        for endpoint in endpoints:
            server = self._servers.get((kind, endpoint))
            if server is None:
                server = Server(kind, endpoint, self._reactor, self._clock, self._health)
                self._servers[kind, endpoint] = server
            server.places = at_once
            found.append(server)
        return found
