"""What every resolver promises (ports.Resolver): one suite, the real one and the fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes.disk import TestClock
from fakes.name_server import NameServer, Network
from fakes.resolver import FakeResolver, Zone
from twisted.internet.defer import Deferred

from inboundmx.net.chance import SystemChance
from inboundmx.net.dns_transport import Server
from inboundmx.net.resolver import DnsResolver
from inboundmx.ports import Answer, Unavailable

ZONE: Zone = {
    "a.test": {
        "A": ["192.0.2.1", "192.0.2.2"],
        "AAAA": ["2001:db8::1"],
        "MX": [(20, "Backup.a.test"), (10, "mx.a.test"), (0, "")],
        "TXT": ["v=spf1 -all", b"x" * 700, b"\x00\xff", b""],
        "NS": ["ns.a.test"],
    },
    "www.a.test": {"CNAME": ["web.a.test"]},
    "web.a.test": {"CNAME": ["A.test"]},
    "loop.test": {"CNAME": ["pool.test"]},
    "pool.test": {"CNAME": ["loop.test"]},
    "dangling.test": {"CNAME": ["nobody.test"]},
    "deep.down.test": {"A": ["192.0.2.3"]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["Mail.A.test", "other.test"]},
    "broken.test": Unavailable("SERVFAIL"),
    "half.test": {"A": ["192.0.2.4"], "TXT": Unavailable("SERVFAIL")},
}

NOTHING = Answer(())
NOWHERE = Answer((), exists=False)


def real() -> Callable[..., Any]:
    network = Network()
    network.servers["127.0.0.1", 53] = NameServer(ZONE)
    clock = TestClock()
    clock.task = network
    resolver = DnsResolver(network, clock, SystemChance(), [Server("127.0.0.1")], 5.0)

    def ask(name: str, type: str) -> Any:
        return outcome(resolver.look_up(name, type), lambda: network.advance(1.0))

    return ask


def fake() -> Callable[..., Any]:
    resolver = FakeResolver(ZONE)
    return lambda name, type: outcome(resolver.look_up(name, type), lambda: None)


def outcome(look_up: Any, wait: Callable[[], None]) -> Any:
    """What it returned or raised."""
    came: list[Any] = []
    deferred = Deferred.fromCoroutine(look_up)
    deferred.addCallbacks(came.append, lambda failure: came.append(failure.value))
    for _ in range(20):
        if came:
            break
        wait()
    return came[0]


@pytest.fixture(params=[real, fake])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    made: Callable[..., Any] = request.param()
    return made


@pytest.mark.parametrize(
    ("name", "type", "answer"),
    [
        ("a.test", "A", Answer(("192.0.2.1", "192.0.2.2"))),
        ("A.Test.", "A", Answer(("192.0.2.1", "192.0.2.2"))),
        ("a.test", "AAAA", Answer(("2001:db8::1",))),
        ("a.test", "MX", Answer(((20, "backup.a.test"), (10, "mx.a.test"), (0, "")))),
        ("a.test", "TXT", Answer((b"v=spf1 -all", b"x" * 700, b"\x00\xff", b""))),
        ("a.test", "NS", Answer(("ns.a.test",))),
        ("1.2.0.192.in-addr.arpa", "PTR", Answer(("mail.a.test", "other.test"))),
        ("www.a.test", "CNAME", Answer(("web.a.test",))),
        ("www.a.test", "A", Answer(("192.0.2.1", "192.0.2.2"))),
        ("www.a.test", "PTR", NOTHING),
        ("dangling.test", "A", NOWHERE),
        ("a.test", "PTR", NOTHING),
        ("down.test", "A", NOTHING),
        ("b.test", "A", NOWHERE),
        ("b.a.test", "TXT", NOWHERE),
        ("half.test", "A", Answer(("192.0.2.4",))),
    ],
)
def test_answers(ask: Callable[..., Any], name: str, type: str, answer: Answer) -> None:
    for _ in range(2):  # the second time from what is remembered
        came = ask(name, type)
        # Name servers shuffle what they say.
        assert sorted(came.rows, key=repr) == sorted(answer.rows, key=repr)
        assert came.exists is answer.exists


@pytest.mark.parametrize(("name", "type"), [("broken.test", "A"), ("half.test", "TXT"), ("loop.test", "A")])
def test_no_proper_answer_is_unavailable(ask: Callable[..., Any], name: str, type: str) -> None:
    assert isinstance(ask(name, type), Unavailable)
    assert isinstance(ask(name, type), Unavailable)


@pytest.mark.parametrize(
    "name", ["", ".", "a..test", ".a.test", "x" * 64 + ".test", "a." * 127 + "test", "grüße.test", "x.é", "a.test.."]
)
def test_a_name_that_cannot_be_asked_for_does_not_exist(ask: Callable[..., Any], name: str) -> None:
    assert ask(name, "A") == NOWHERE
