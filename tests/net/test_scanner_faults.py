"""Scanners in every kind of trouble, by a clock of our own: each message is decided in time, a scanner that fails is
hardly asked any more, and one that is back is asked again soon."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from fakes.services import Line, Outcome, Services, body

from inboundmx.net.servers import FAILURES, PROBE_SECONDS

SECONDS = 10.0
MAIL = body(b"Subject: hello\r\n\r\nhello\r\n")
ONE, TWO = "tcp:one.test:1", "tcp:two.test:1"
SAID = {
    "clamd": b"stream: OK\0",
    "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: True ; 9.0 / 5.0\r\n\r\nA",
    "rspamd": b'HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n{"score": 9.0, "symbols":{"A":1}}',
}
FOUND = {"clamd": "", "spamd": (9.0, ("A",)), "rspamd": (9.0, ("A",))}


class Scanner(Services):
    def __init__(self, kind: str, *servers: str) -> None:
        super().__init__()
        self.kind = kind
        self.servers = servers or (ONE,)
        self.decided: list[tuple[Outcome, float]] = []
        self.slow: list[tuple[float, Callable[[], None]]] = []

    def ask(self) -> Outcome:
        if self.kind == "clamd":
            asked = self.scanners.viruses(self.servers, 2**20, SECONDS).scan(MAIL)
        elif self.kind == "rspamd":
            asked = self.scanners.rspamd(self.servers, 2**20, len(self.servers), 2, SECONDS, "").score(MAIL, [])
        else:
            asked = self.scanners.spam(self.servers, 2**20, len(self.servers), 2, SECONDS).score(MAIL, b"")
        return Outcome(asked)

    def post(self) -> None:
        """A message whose end is noted when it comes."""
        outcome, began = self.ask(), self.reactor.seconds()
        outcome.deferred.addBoth(lambda _: self.decided.append((outcome, self.reactor.seconds() - began)))

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.slow.append((self.reactor.seconds() + seconds, act))

    def passes(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        now = self.reactor.seconds()
        due, self.slow = [act for at, act in self.slow if at <= now], [each for each in self.slow if each[0] > now]
        for act in due:
            act()

    def behaves(self, act: Callable[[Scanner, Line], None] | None) -> None:
        """Sees to all that has connected since."""
        while self.waiting:
            if act is None:
                self.refuse()
            else:
                act(self, self.accept())

    def well(self, line: Line) -> None:
        line.says(SAID[self.kind])


def hangs(scanner: Scanner, line: Line) -> None:
    pass


def drips(scanner: Scanner, line: Line) -> None:
    for number, octet in enumerate(SAID[scanner.kind]):
        scanner.later(5.0 * (number + 1), lambda octet=octet: line.says(bytes([octet])))  # type: ignore[misc]


def dies(scanner: Scanner, line: Line) -> None:
    line.says(SAID[scanner.kind][:7])
    line.closes()


def babbles(scanner: Scanner, line: Line) -> None:
    line.says(b"\xff\xfe\0\r\n\r\n" + b"x" * 100_000)


def is_late(scanner: Scanner, line: Line) -> None:
    scanner.later(30.0, lambda: line.says(SAID[scanner.kind]))


TROUBLES: dict[str, Any] = {
    "refuses": None, "hangs": hangs, "an octet in 5 s": drips, "dies in the middle": dies, "garbage": babbles,
    "30 s late": is_late,
}  # fmt: skip


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_two_hundred_messages(kind: str, trouble: str) -> None:
    scanner, act = Scanner(kind), TROUBLES[trouble]
    opened_at = None
    connected: list[float] = []
    for _ in range(200):
        scanner.post()
        connected += [scanner.reactor.seconds()] * scanner.waiting
        scanner.behaves(act)
        scanner.passes(1.0)
        if opened_at is None and len(scanner.notes) >= FAILURES:
            opened_at = scanner.reactor.seconds()
    while len(scanner.decided) < 200:
        scanner.passes(1.0)
        scanner.behaves(act)
    assert all(outcome.unavailable for outcome, _ in scanner.decided)
    assert max(took for _, took in scanner.decided) <= SECONDS + 2.0
    # No more than a probe in ten seconds once it has failed five times, whoever waited for a place until then.
    assert opened_at is not None
    probes = [at for at in connected if at > opened_at]
    assert probes
    assert all(later - earlier >= PROBE_SECONDS for earlier, later in pairwise(probes))
    # And it is back at most 15 s after it does its work again.
    for _ in range(15):
        outcome = scanner.ask()
        scanner.behaves(Scanner.well)
        scanner.passes(1.0)
        if outcome.error is None:
            break
    assert outcome.value == FOUND[kind]


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_next_server_takes_over(kind: str, trouble: str) -> None:
    """The message that meets the trouble is scanned all the same, within its time; after five nobody meets it."""
    scanner, act = Scanner(kind, ONE, TWO), TROUBLES[trouble]

    def served(scanner: Scanner) -> None:
        while scanner.waiting:
            first = scanner.reactor.tcpClients[scanner._served][0] == "one.test"
            if first and act is None:
                scanner.refuse()
            else:
                (act if first else Scanner.well)(scanner, scanner.accept())

    for _ in range(FAILURES + 3):
        scanner.post()
        for _ in range(10):
            served(scanner)
            scanner.passes(0.5)
    assert [outcome.value for outcome, _ in scanner.decided] == [FOUND[kind]] * (FAILURES + 3)
    assert max(took for _, took in scanner.decided) <= SECONDS
    assert scanner.asked().count("one.test") <= FAILURES + 1
