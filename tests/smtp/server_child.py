"""A server on real sockets with a conversation that says yes to everything: run by test_server_tls.py.

Arguments: certificate, key. Prints the ports (plain, implicit TLS, and both behind PROXY) as the first line; then, for
each connection that ends, one JSON line: what was asked, contents, the session.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from conversation_fake import FakeConversation, settings
from twisted.internet import reactor as _reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.protocols.tls import TLSMemoryBIOFactory

from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import TlsSettings
from inboundmx.net.chance import SystemChance
from inboundmx.net.clock import ReactorClock
from inboundmx.smtp.server import SmtpServerFactory
from inboundmx.smtp.tls import server_options

reactor: Any = _reactor


class Telling(FakeConversation):
    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def hello(self, session: Session) -> Any:
        self.session = session
        return super().hello(session)

    def closed(self, reason: str) -> None:
        told = {
            "asked": [question[0] for question in self.asked],
            "contents": [content.decode() for content in self.contents],
            "tls": self.session.tls,
            "ip": self.session.peer_ip,
            "closed": reason,
        }
        print(json.dumps(told), flush=True)


class Reception:
    def unwelcome(self, session: Session) -> Reply | None:
        return Reply(554, "5.7.1", "no", then_close=True) if session.peer_ip == "127.0.0.66" else None

    def conversation(self, session: Session) -> Telling:
        return Telling(session)


def main(certificate: str, key: str) -> None:
    options = server_options(TlsSettings(certificate, key))
    factory = SmtpServerFactory(Reception(), ReactorClock(reactor), SystemChance(), settings(), options)
    plain = reactor.listenTCP(0, factory, interface="127.0.0.1")
    encrypted = TLSMemoryBIOFactory(options, False, factory)
    implicit = reactor.listenTCP(0, encrypted, interface="127.0.0.1")
    proxy = "haproxy:tcp:0:interface=127.0.0.1"
    proxied = [serverFromString(reactor, proxy).listen(each) for each in (factory, encrypted)]

    def ready(ports: list[Any]) -> None:
        print(json.dumps([port.getHost().port for port in (plain, implicit, *ports)]), flush=True)

    gatherResults(proxied).addCallback(ready)
    reactor.run()


main(*sys.argv[1:])
