"""What the gateway asks fails: scanners and name servers, each in all its ways.

Knows what is promised then: an answer in time, the operator's policy, a helper that is left alone, everybody else
undisturbed, and service again soon after.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from figures import Figure, exactly
from lab import DOMAIN, UNHURRIED, Lab, crowd, domain, letter, noops, progress, sent, stranger, until
from name_servers import PlayedServer
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


CLAMD: dict[str, Callable[[socket.socket], object]] = {
    "refuses": lambda line: None,
    "accepts and hangs": CLAMD_LIARS["hangs"],
    "an octet every 5 s": CLAMD_LIARS["drips"],
    "dies in mid-reply": CLAMD_LIARS["dies in the middle"],
    "garbage": CLAMD_LIARS["garbage"],
    "answers after 30 s": late,
}
SPAMD: dict[str, Callable[[socket.socket], object]] = {
    "hangs": SPAMD_LIARS["hangs"],
    "dies": SPAMD_LIARS["dies at once"],
    "garbage": SPAMD_LIARS["nan"],
}


class Failing:
    """One way to fail, tried: what came of it, and how soon it was over."""

    def __init__(self) -> None:
        self.wrong = 0
        self.asked = 0.0
        self.worst = 0.0
        self.lag = self.idle_lag = 0.0
        self.recovery = 0.0


def _tried(lab: Lab, kind: str, act: Callable[[socket.socket], object], expected: int, found: Failing) -> None:
    server = Liar(act)
    lab.close_later(server.close)
    refuses = act is CLAMD["refuses"]
    endpoint, seconds = server.endpoint, f"{TIMEOUT if lab.full else SHORT_TIMEOUT}s"
    if refuses:
        server.close()
    sections = (
        av(endpoint, timeout=seconds) if kind == "clamd" else sa(endpoint, f"timeout = {seconds}", "weight.high = 30")
    )
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port) + sections + UNHURRIED)
    to = [f"user@{DOMAIN}"]
    with noops(gateway.port) as asking, noops(primary.port) as idle:
        # After these it is left alone.
        first = crowd(5, 1, lambda n: sent(gateway.port, letter(f"first {n}"), to))
        asked, began = server.asked, time.monotonic()
        rest = crowd(lab.times(200, 20), 20, lambda n: sent(gateway.port, letter(f"number {n}"), to))
        probes = (time.monotonic() - began) // PROBE_SECONDS + 1
        found.wrong += sum(times for each in (first, rest) for code, times in each.codes.items() if code != expected)
        found.asked = max(found.asked, (server.asked - asked) / probes)
        found.worst = max(found.worst, first.worst, rest.worst)
        if lab.full and not refuses:
            server.act, began = well if kind == "clamd" else spamd_well, time.monotonic()
            heard = server.asked

            def asked_again() -> bool:
                return sent(gateway.port, letter("later"), to) == 250 and server.asked > heard

            until("service again", asked_again, 60.0)
            found.recovery = max(found.recovery, time.monotonic() - began)
    found.lag, found.idle_lag = max(found.lag, asking.longest), max(found.idle_lag, idle.longest)


def scanners(lab: Lab) -> list[Figure]:
    """clamd and spamd that refuse, hang, drip, die, babble or are late, and a clamd that takes few at once."""
    found = Failing()
    for name, act in (CLAMD if lab.full else {"accepts and hangs": CLAMD["accepts and hangs"]}).items():
        progress(f"clamd {name}")
        _tried(lab, "clamd", act, 451, found)
    for name, act in (SPAMD if lab.full else {}).items():
        progress(f"spamd {name}")
        _tried(lab, "spamd", act, 250, found)
    return [
        exactly(
            "mails answered otherwise than the policy says (clamd 451, spamd as if it had said nothing)", found.wrong, 0
        ),
        Figure("slowest decision, with a scan time-out of 2 s", found.worst, "s", most=TIMEOUT + GRACE, timed=True),
        Figure("questions in 10 s to a scanner that failed five times", found.asked, most=1),
        Figure("longest that another client waited meanwhile", found.lag * 1000, "ms", most=250, timed=True),
        Figure("the same of a program that had nothing else to do", found.idle_lag * 1000, "ms", timed=True),
        *(
            [Figure("until it is asked again once it is well", found.recovery, "s", most=15, timed=True)]
            if lab.full
            else []
        ),
        *_few_places(lab),
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
