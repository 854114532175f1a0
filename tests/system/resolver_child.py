"""Looks names up with our resolver on a real reactor: servers, then NAME/TYPE as arguments; one line of JSON each."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, DeferredList

from inboundmx.net.chance import SystemChance
from inboundmx.net.clock import ReactorClock
from inboundmx.net.dns_servers import name_servers
from inboundmx.net.resolver import DnsResolver
from inboundmx.ports import Unavailable


def main(servers: str, *questions: str) -> None:
    reactor: Any = installed
    resolver = DnsResolver(reactor, ReactorClock(reactor), SystemChance(), name_servers(servers.split()), 2.0)
    told: dict[str, Any] = {}

    async def look_up(question: str) -> None:
        name, _, type = question.rpartition("/")
        try:
            answer = await resolver.look_up(name, type)
        except Unavailable as trouble:
            told[question] = {"unavailable": trouble.reason}
        else:
            rows = [row.decode("latin-1") if isinstance(row, bytes) else row for row in answer.rows]
            told[question] = {"rows": rows, "exists": answer.exists}

    def end(results: Any) -> None:
        resolver.close()
        for good, failure in results:
            if not good:
                failure.printTraceback()
        reactor.stop()

    def begin() -> None:
        DeferredList([Deferred.fromCoroutine(look_up(each)) for each in questions]).addCallback(end)

    reactor.callWhenRunning(begin)
    reactor.run()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
