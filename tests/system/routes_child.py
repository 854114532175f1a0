"""Finds routes with our resolver on a real reactor: a port of a name server on 127.0.0.1, then VIA/DOMAIN as arguments,
each asked for twice: the second time nothing may be waited for. One line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, DeferredList

from inboundmx.delivery.routes import RouteFinder
from inboundmx.model.custody import Route
from inboundmx.model.settings import BackupSettings, GatewaySettings, Settings
from inboundmx.net.chance import SystemChance
from inboundmx.net.clock import ReactorClock
from inboundmx.net.dns_servers import name_servers
from inboundmx.net.resolver import DnsResolver
from inboundmx.ports import NoRoute, Unavailable
from inboundmx.prompt import promptly

SETTINGS = Settings(
    gateway=GatewaySettings(hostname="mx2.zone.test", addresses=("198.51.100.1",)),
    backup=BackupSettings((ip_network("192.0.2.10/32"), ip_network("2001:db8::10/128"))),
)


def shown(route: Route) -> Any:
    return [f"{host} {host.name}" for host in route.hosts]


def main(port: str, *wanted: str) -> None:
    reactor: Any = installed
    chance = SystemChance()
    resolver = DnsResolver(reactor, ReactorClock(reactor), chance, name_servers([f"127.0.0.1:{port}"]), 2.0)
    finder = RouteFinder(lambda: SETTINGS, resolver, chance, lambda: ["192.0.2.99"], lambda name: None)
    told: dict[str, Any] = {}

    def ask(which: str, took: Callable[[Any], None]) -> Deferred[Any] | None:
        via, _, name = which.partition("/")
        domain = SETTINGS.domain(name, via)
        assert domain is not None

        def failed(failure: Any) -> None:
            if isinstance(failure.value, NoRoute):
                took(str(failure.value.reply))
            elif failure.check(Unavailable):
                took("unavailable")
            else:
                took(failure.getTraceback())

        return promptly(finder.find(domain), lambda route: took(shown(route)), failed)

    def again(_: Any) -> None:
        for which in wanted:
            first = told.pop(which, "never ended")
            waited = ask(which, lambda came, which=which: told.__setitem__(which, came))
            if waited is not None or sorted(told[which]) != sorted(first):
                told[which] = ["waited for what was known", first, told.get(which)]
        resolver.close()
        reactor.stop()

    def begin() -> None:
        asked = [ask(which, lambda came, which=which: told.__setitem__(which, came)) for which in wanted]
        DeferredList([each for each in asked if each is not None]).addCallback(again)

    reactor.callWhenRunning(begin)
    reactor.run()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
