"""What the gateway asks fails: scanners, programs and name servers, each in all its ways.

Knows what is promised then: an answer in time, the operator's policy, a helper that is left alone, everybody else
undisturbed, and service again soon after.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from figures import Figure, exactly
from lab import DOMAIN, UNHURRIED, Lab, crowd, domain, letter, noops, progress, sent, stranger, until
from name_servers import PlayedServer
from programs import Gateway
from scanners import Liar, read_request, read_stream
from test_checks_scanners import CLAMD_LIARS, SPAMD_LIARS, av, sa

TIMEOUT, SHORT_TIMEOUT = 2.0, 0.5
# Added to the time-out of a scan, the answer is there.
GRACE = 2.0
PROBE_SECONDS = 10.0


def well(line: socket.socket) -> None:
    read_stream(line)
    line.sendall(b"stream: OK\0")


def late(line: socket.socket) -> None:
    read_stream(line)
    time.sleep(30)


def spamd_well(line: socket.socket) -> None:
    read_request(line)
    line.sendall(b"SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: False ; 1.0 / 5.0\r\n\r\nA")


def rspamd_says(content: bytes, line: socket.socket) -> None:
    read_request(line)
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)


def rspamd_floods(line: socket.socket) -> None:
    read_request(line)
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n{")
    while True:
        line.sendall(b" " * 65536)


def rspamd_dies(line: socket.socket) -> None:
    read_request(line)
    line.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"score": ')


rspamd_well = partial(rspamd_says, b'{"score": 1.0, "symbols": {}}')

Act = Callable[[socket.socket], object]
REFUSES = "refuses"
# By kind of server: in which ways it fails, and what it does when it is well.
SERVERS: dict[str, tuple[dict[str, Act], Act]] = {
    "clamd": (
        {
            REFUSES: well,
            "accepts and hangs": CLAMD_LIARS["hangs"],
            "an octet every 5 s": CLAMD_LIARS["drips"],
            "dies in mid-reply": CLAMD_LIARS["dies in the middle"],
            "garbage": CLAMD_LIARS["garbage"],
            "answers after 30 s": late,
        },
        well,
    ),
    "spamd": (
        {
            "hangs": SPAMD_LIARS["hangs"],
            "dies": SPAMD_LIARS["dies at once"],
            "garbage": SPAMD_LIARS["nan"],
        },
        spamd_well,
    ),
    "rspamd": (
        {
            "hangs": SPAMD_LIARS["hangs"],
            "dies in mid-reply": rspamd_dies,
            "lies": partial(rspamd_says, b'{"score": 1e999}'),
            "floods": rspamd_floods,
        },
        rspamd_well,
    ),
}
# By the policy: a clamd that fails puts mail off, the others are as if they had said nothing.
EXPECTED = {"clamd": 451, "spamd": 250, "rspamd": 250}
SHORT = {"clamd": "accepts and hangs", "rspamd": "lies"}
# How a program of an operator's fails.
PROGRAMS = {
    "hangs": "sleep 1000",
    "floods": "cat /dev/zero",
    "forks": "for each in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; wait",
    "dies": "kill -9 $$",
}


class Failing:
    """Ways to fail, tried: what came of the worst, and how soon it was over."""

    def __init__(self) -> None:
        self.wrong = 0
        self.asked = 0.0
        self.worst = 0.0
        self.lag = self.idle_lag = 0.0
        self.recovery = 0.0
        self.left = 0


def _tried(lab: Lab, kind: str, act: Act, refuses: bool, found: Failing) -> None:
    server = Liar(act)
    lab.close_later(server.close)
    endpoint, seconds = server.endpoint, f"{TIMEOUT if lab.full else SHORT_TIMEOUT}s"
    if refuses:
        server.close()
    if kind == "clamd":
        sections = av(endpoint, timeout=seconds)
    else:
        sections = sa(endpoint, f"timeout = {seconds}", "weight.high = 30")
    if kind == "rspamd":
        sections = sections.replace("spamassassin", "rspamd")
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port) + sections + UNHURRIED)
    expected = EXPECTED[kind]
    with noops(gateway.port) as asking, noops(primary.port) as idle:
        # After these it is left alone.
        found.wrong += _wrong(gateway, 5, 1, expected, found)
        asked, began = server.asked, time.monotonic()
        found.wrong += _wrong(gateway, lab.times(200, 20), 20, expected, found)
        probes = (time.monotonic() - began) // PROBE_SECONDS + 1
        found.asked = max(found.asked, (server.asked - asked) / probes)
        if lab.full and not refuses:
            server.act, began = SERVERS[kind][1], time.monotonic()
            heard = server.asked

            def asked_again() -> bool:
                return sent(gateway.port, letter("later"), [f"user@{DOMAIN}"]) == 250 and server.asked > heard

            until("service again", asked_again, 60.0)
            found.recovery = max(found.recovery, time.monotonic() - began)
    found.lag, found.idle_lag = max(found.lag, asking.longest), max(found.idle_lag, idle.longest)


def _wrong(gateway: Gateway, count: int, at_once: int, expected: int, found: Failing) -> int:
    came = crowd(count, at_once, lambda n: sent(gateway.port, letter(f"number {n}"), [f"user@{DOMAIN}"]))
    found.worst = max(found.worst, came.worst)
    return count - came.codes[expected]


def _programs(lab: Lab, script: str, found: Failing) -> None:
    """A program is not left alone: each message has one of its own, and as many run at once as ``at_once`` says."""
    primary = lab.counting()
    path = primary.folder / "program"
    path.write_text(f"#!/bin/sh\necho $$ >> {primary.folder}/started\n{script}\n")
    path.chmod(0o755)
    gateway = lab.gateway(
        domain(primary.port)
        + f"[check program]\nuse = command\ncommand = {path} %filepath\nexit.0 = clean\nat_once = 20\n"
        f"timeout = {TIMEOUT if lab.full else SHORT_TIMEOUT}s\nweight.error = defer\nweight.timeout = defer\n"
        + UNHURRIED
    )
    with noops(gateway.port) as asking, noops(primary.port) as idle:
        found.wrong += _wrong(gateway, lab.times(200, 20), 20, 451, found)
        groups = set(map(int, (primary.folder / "started").read_text().split()))
        until("all have been ended", lambda: not groups & _groups())
        found.left = max(found.left, sum(len(files) for _, _, files in os.walk(gateway.data / "scratch")))
    found.lag, found.idle_lag = max(found.lag, asking.longest), max(found.idle_lag, idle.longest)


def _groups() -> set[int]:
    """The process groups that have a living member."""
    found = set()
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = each.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if state not in "ZX":
            found.add(int(group))
    return found


def scanners(lab: Lab) -> list[Figure]:
    """clamd, spamd and rspamd that refuse, hang, drip, die, babble or are late, a clamd that takes few at once, and
    programs that hang, flood, fork or die."""
    servers, programs = Failing(), Failing()
    for kind, (ways, _) in SERVERS.items():
        for name, act in ways.items():
            if lab.full or SHORT.get(kind) == name:
                progress(f"{kind} {name}")
                _tried(lab, kind, act, name == REFUSES, servers)
    for name, script in PROGRAMS.items():
        if lab.full or name == "forks":
            progress(f"a program {name}")
            _programs(lab, script, programs)
    return [
        exactly(
            "mails answered otherwise than the policy says (clamd 451, spamd and rspamd as if they had said nothing)",
            servers.wrong,
            0,
        ),
        Figure("slowest decision, with a scan time-out of 2 s", servers.worst, "s", most=TIMEOUT + GRACE, timed=True),
        Figure("questions in 10 s to a scanner that failed five times", servers.asked, most=1),
        Figure("longest that another client waited meanwhile", servers.lag * 1000, "ms", most=250, timed=True),
        Figure("the same of a program that had nothing else to do", servers.idle_lag * 1000, "ms", timed=True),
        *(
            [Figure("until it is asked again once it is well", servers.recovery, "s", most=15, timed=True)]
            if lab.full
            else []
        ),
        *_few_places(lab),
        exactly("mails beside a `command` that fails answered otherwise than the policy says (451)", programs.wrong, 0),
        Figure("slowest decision beside one, with 2 s for it", programs.worst, "s", most=TIMEOUT + GRACE, timed=True),
        exactly("copies of mail that such left behind; none of their processes did", programs.left, 0),
        Figure("longest that another client waited beside one", programs.lag * 1000, "ms", most=250, timed=True),
        Figure("of a program that had nothing else to do", programs.idle_lag * 1000, "ms", timed=True),
    ]


def _few_places(lab: Lab) -> list[Figure]:
    """A clamd that cuts whoever is one too many; our client is told of its places, and nobody is refused."""
    lock, places = threading.Lock(), [0]

    def act(line: socket.socket) -> None:
        with lock:
            full = places[0] == 10
            places[0] += not full
        if full:
            return
        try:
            read_stream(line)
            time.sleep(0.02)
        finally:
            # Before the answer: who has heard it may come again at once.
            with lock:
                places[0] -= 1
        line.sendall(b"stream: OK\0")

    server = Liar(act)
    lab.close_later(server.close)
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port) + av(server.endpoint, timeout="20s"))
    count = lab.times(200, 40)
    rest = crowd(count, 20, lambda n: sent(gateway.port, letter(f"number {n}"), [f"user@{DOMAIN}"]))
    return [exactly("mails put off by a clamd that takes ten at once", count - rest.codes[250], 0)]


# --- DNS --------------------------------------------------------------------------------------------------------------

NAME_CHECKS = "[check rdns]\nuse = rdns\n[check helo]\nuse = helo\n[check spf]\nuse = spf\n" + "".join(
    f"[check list{n}]\nuse = dnsbl\nzone = list{n}.test\n" for n in range(3)
)


def black_hole(lab: Lab) -> list[Figure]:
    """Name servers that say nothing: mail from two hundred addresses of as many senders, with every check that asks."""
    server = PlayedServer({f"2.0.0.127.list{n}.test": {"A": ["127.0.0.2"]} for n in range(3)})
    lab.close_later(server.close)
    primary = lab.counting()
    gateway = lab.gateway(f"[dns]\nservers = 127.0.0.1:{server.port}\n{domain(primary.port)}{NAME_CHECKS}")
    count = lab.times(200, 40)

    def send(begin: int) -> Callable[[int], int]:
        def one(number: int) -> int:
            at = begin + number
            sender = f"a@s{at}.stranger.example"
            return sent(gateway.proxied, letter(f"m{at}"), [f"user@{DOMAIN}"], sender=sender, peer=stranger(at))

        return one

    usual = crowd(count, 20, send(0))
    server.played.mode = "silent"
    before = crowd(count, 20, send(count))
    # It is known by now.
    after = crowd(count, 20, send(2 * count))
    slowdown = usual.took / after.took * 100
    return [
        exactly("mails refused for good because of it", before.refused_for_good + after.refused_for_good, 0),
        exactly("mails not accepted because of it", 2 * count - before.codes[250] - after.codes[250], 0),
        Figure(
            "most that was added to a mail",
            max(before.worst, after.worst) - min(usual.seconds),
            "s",
            most=10,
            timed=True,
        ),
        Figure("throughput once it is known, of the usual", slowdown, "%", least=50, timed=True),
    ]
