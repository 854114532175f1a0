"""Too much of everything: connections, octets, descriptors, memory, mail that waits.

Knows what honest strangers and the delivery of mail are still owed then.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from figures import Figure, exactly
from lab import (
    DOMAIN,
    CountingPrimary,
    Lab,
    Wire,
    cpu_seconds,
    crowd,
    domain,
    forget_peak,
    letter,
    noops,
    peak_mib,
    progress,
    proxied,
    resident_mib,
    sent,
    serial,
    stranger,
    until,
    virtual_kib,
)
from programs import Gateway

MB = 2**20
SPARE_MIB = 4
ROOM = "[smtp]\nmax_connections = 3000\nmax_connections_per_ip = 2000\nmax_junk_commands = 1000000\n"


def _connected(gateway: Gateway, number: int) -> Wire:
    return proxied(gateway.proxied, stranger(number), timeout=60.0)


def slow_crowd(lab: Lab) -> list[Figure]:
    """Five hundred connections, an octet every ten seconds on each, and honest mail beside them."""
    count, seconds = lab.times(500, 60), 150.0 if lab.full else 2.0
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port, tls="none") + ROOM)
    honest: list[float] = []
    wrong = cut = 0
    with ExitStack() as crowded:
        slow = [crowded.enter_context(_connected(gateway, number)) for number in range(count)]
        for wire in slow:
            wire.hello()
        began = next_octet = time.monotonic()
        number = 0
        while time.monotonic() - began < seconds:
            if time.monotonic() >= next_octet:
                next_octet += 10
                for wire in slow:
                    with suppress(OSError):
                        wire.send(b"N")
                progress(f"slow for {time.monotonic() - began:.0f} s")
            at = time.monotonic()
            wrong += sent(gateway.port, serial(number), [f"user@{DOMAIN}"]) != 250
            honest.append(time.monotonic() - at)
            number += 1
            time.sleep(1.0 if lab.full else 0.2)
        for wire in slow if lab.full else ():
            wire.socket.settimeout(0.01)
            with suppress(OSError):
                wire.rest()
                cut += 1
    figures = [
        exactly(f"honest mails not accepted beside {count} connections that say an octet every 10 s", wrong, 0),
        Figure("slowest of the honest", max(honest), "s", most=2.0, timed=True),
    ]
    if lab.full:
        # A whole command line has two minutes, however it drips.
        figures.append(exactly("of the slow ones still there after two and a half minutes", count - cut, 0))
    return figures


def full_house(lab: Lab) -> list[Figure]:
    """All connections are taken by clients that say an octet now and then, and more of them wait to come in."""
    most = lab.times(300, 30)
    primary = lab.counting()
    gateway = lab.gateway(
        domain(primary.port, tls="none") + f"[smtp]\nmax_connections = {most}\nmax_connections_per_ip = {most}\n"
    )
    honest: list[float] = []
    refused = 0
    with ExitStack() as crowded:
        slow = [crowded.enter_context(_connected(gateway, number)) for number in range(most)]
        for wire in slow:
            wire.hello()
        began = time.monotonic()
        until("a place", lambda: sent(gateway.port, serial(0), [f"user@{DOMAIN}"]) == 250, 60.0)
        progress(f"the first honest mail after {time.monotonic() - began:.1f} s")
        # Ten seconds are everybody's to begin.
        until("the end of our patience with the last of them", lambda: time.monotonic() - began > 10.5, 60.0)
        for number in range(1, lab.times(100, 10)):
            for wire in slow:
                with suppress(OSError):
                    wire.send(b"N")
            # Its place is taken as soon as it has left.
            with suppress(OSError):
                slow.append(crowded.enter_context(_connected(gateway, most + number)))
            at = time.monotonic()
            refused += sent(gateway.port, serial(number), [f"user@{DOMAIN}"]) != 250
            honest.append(time.monotonic() - at)
    return [
        exactly(f"honest mails not accepted while {most} slow connections have every place", refused, 0),
        Figure("slowest of the honest then", max(honest), "s", most=2.0, timed=True),
    ]


def held_octets(lab: Lab) -> list[Figure]:
    """What connections can make us keep: a line without end, and sixty kilobytes of a message on each of many."""
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port, tls="none") + ROOM)
    sent(gateway.port, letter("warm"), [f"user@{DOMAIN}"])
    idle = resident_mib(gateway.pid)
    forget_peak(gateway.pid)
    with Wire(gateway.port, timeout=60.0) as wire, suppress(OSError, EOFError):
        wire.hello()
        for _ in range(lab.times(100, 20)):
            wire.send(b"x" * MB)
    endless = peak_mib(gateway.pid) - idle
    count = lab.times(1000, 50)
    forget_peak(gateway.pid)
    idle = resident_mib(gateway.pid)
    with ExitStack() as crowded:
        wires = [crowded.enter_context(_connected(gateway, number)) for number in range(count)]
        for wire in wires:
            wire.hello()
            wire.envelope("a@stranger.example", f"user@{DOMAIN}")
            wire.ask("DATA")
            wire.send(letter("held", b"y" * 60_000))
        # It reads from all in turn: when this one was served, what they said has been read.
        until("service beside them", lambda: sent(gateway.port, letter("beside"), [f"user@{DOMAIN}"]) == 250)
        held = peak_mib(gateway.pid) - idle
    until("all of them gone", lambda: sent(gateway.port, letter("after"), [f"user@{DOMAIN}"]) == 250)
    return [
        Figure("memory a command line of 100 MB costs", endless, "MiB", most=16),
        Figure(
            f"memory {count:,} connections cost with 60 KB of a message each",
            held,
            "MiB",
            most=150 * max(1.0, count / 1000),
        ),
    ]


def many_large(lab: Lab) -> list[Figure]:
    """Forty messages of 25 MB at once, and the same where the system gives hardly any memory."""
    at_once, size = (40, 25 * MB) if lab.full else (12, MB)
    octets = letter("large", (b"y" * 70 + b"\r\n") * (size // 72))
    found = []
    for up in (False, True):
        primary = lab.counting(start=up)
        gateway = lab.gateway(domain(primary.port, tls="none") + ROOM)
        sent(gateway.port, letter("warm", b"z" * 400_000 + b"\r\n"), [f"user@{DOMAIN}"])
        forget_peak(gateway.pid)
        progress(f"primary {'up' if up else 'down'}")
        taken = crowd(at_once, at_once, lambda n, gateway=gateway: sent(gateway.port, octets, [f"user@{DOMAIN}"]))
        found.append((taken, peak_mib(gateway.pid)))
    down, up_ = found
    most = 64.0 + at_once
    figures = [
        exactly(
            "of 40 messages of 25 MB at once, not accepted (primary down, then up)",
            2 * at_once - down[0].codes[250] - up_[0].codes[250],
            0,
        ),
        Figure("highest memory, primary down: all is written to disk", down[1], "MiB", most=most),
        Figure("highest memory, primary up: all is on its way to it", up_[1], "MiB", most=most),
    ]
    return [*figures, *_little_memory(lab, at_once, (b"y" * 70 + b"\r\n") * (size // 72))]


def _little_memory(lab: Lab, at_once: int, body: bytes) -> list[Figure]:
    """The system gives next to nothing beyond what an idle gateway has."""
    progress("little memory")
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port, tls="none") + ROOM)
    needs = virtual_kib(gateway.pid)
    gateway.stop()
    gateway.spawn(["sh", "-c", f'ulimit -v {needs + SPARE_MIB * 1024}; exec "$@"', "sh", *gateway.launch_command()])
    gateway.wait_for_banner(gateway.port)
    accepted = []

    def send(number: int, body: bytes = body) -> int:
        code = sent(gateway.port, serial(number, body), [f"user@{DOMAIN}"])
        if code == 250:
            accepted.append(f"n{number}")
        return code

    taken = crowd(at_once, at_once, send)
    alive = gateway.running
    # Of the usual size: whether there is room for one so large, even alone, is a matter of luck.
    until("service again", lambda: send(at_once, b"usual\r\n") == 250)
    gateway.restart()
    gateway.drain(120.0)
    lost = set(accepted) - {number for number, _, _ in primary.taken()}
    # Running out of memory in the middle of something is told as the fault it is: not one to be counted here.
    lab.gateways.remove(gateway)
    gateway.abort()
    for path in (gateway.output, gateway.errors):
        path.unlink()
    return [
        exactly(
            f"died, with {SPARE_MIB} MiB beyond what an idle gateway has, of 40 such messages at once",
            0 if alive else 1,
            0,
        ),
        exactly("refused for good then", taken.refused_for_good, 0),
        exactly("lost then", len(lost), 0),
        Figure("put off then, with 451 or a lost connection", at_once - taken.codes[250]),
    ]


def few_descriptors(lab: Lab) -> list[Figure]:
    """256 descriptors and a crowd of 400: mail that waits is delivered, and honest clients are served right after."""
    primary = lab.counting(start=False)
    gateway = lab.gateway(domain(primary.port, tls="none") + ROOM, start=False).start(descriptors=256)
    waiting = lab.times(50, 10)
    crowd(waiting, 10, lambda n: sent(gateway.port, serial(n), [f"user@{DOMAIN}"]))
    with ExitStack() as crowded:
        for _ in range(400):
            with suppress(OSError):
                crowded.enter_context(Wire(gateway.port))
        time.sleep(0.5)
        busy, began = cpu_seconds(gateway.pid), time.monotonic()
        time.sleep(10.0 if lab.full else 1.0)
        load = (cpu_seconds(gateway.pid) - busy) / (time.monotonic() - began) * 100
        primary.start()
        gateway.drain()
        delivered = primary.count()
    released = time.monotonic()
    until("honest mail", lambda: sent(gateway.port, serial(999), [f"user@{DOMAIN}"]) == 250, 60.0)
    return [
        exactly("died", 0 if gateway.running else 1, 0),
        exactly(
            f"not delivered of {waiting} messages that waited, while 400 connections were held", waiting - delivered, 0
        ),
        Figure("processor taken by holding them", load, "%", most=20, timed=True),
        Figure("until honest mail is accepted after they left", time.monotonic() - released, "s", most=5, timed=True),
    ]


def harvest(lab: Lab) -> list[Figure]:
    """Two hundred guesses from one address, VRFY and EXPN among them."""
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port, tls="none"))
    heard: Counter[int] = Counter()
    told = 0
    with suppress(OSError, EOFError), Wire(gateway.port) as wire:
        wire.hello()
        for verb in ("VRFY user", "EXPN all"):
            told += wire.ask(verb).code == 250
        wire.ask("MAIL FROM:<a@stranger.example>")
        for number in range(200):
            heard[wire.ask(f"RCPT TO:<guess{number}@nowhere.example>").code] += 1
    return [
        Figure("guesses answered of 200 on one connection", sum(heard.values()), most=21),
        exactly("addresses told by VRFY and EXPN", told, 0),
        *_equal_answers(lab),
    ]


def _equal_answers(lab: Lab) -> list[Figure]:
    """What is remembered of who exists and of who does not is said after the same time, without a question."""
    known, unknown = f"ann@{DOMAIN}", f"eve@{DOMAIN}"
    primary = lab.play.recording()
    primary.script(known=[known, f"postmaster@{DOMAIN}"])
    gateway = lab.gateway(
        domain(primary.port, tls="none", recipients="learned callout") + ROOM + "max_bad_recipients = 1000000\n"
    )
    seconds: dict[str, list[float]] = {known: [], unknown: []}
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<a@stranger.example>")
        first = {each: wire.ask(f"RCPT TO:<{each}>").code for each in seconds}
        asked = len(primary.asked())
        for _ in range(lab.times(500, 50)):
            for each, took in seconds.items():
                began = time.monotonic()
                wire.ask(f"RCPT TO:<{each}>")
                took.append(time.monotonic() - began)
    medians = [statistics.median(took) for took in seconds.values()]
    return [
        exactly(
            "of two that the primary was asked about, not answered as it did",
            2 - (first == {known: 250, unknown: 550}) * 2,
            0,
        ),
        exactly("questions to the primary when they are named again", len(primary.asked()) - asked, 0),
        Figure(
            "between the answers for who exists and who does not",
            abs(medians[0] - medians[1]) * 1000,
            "ms",
            most=20,
            timed=True,
        ),
    ]


# --- mail that waits --------------------------------------------------------------------------------------------------


def backlog(lab: Lab) -> list[Figure]:
    """A hundred thousand messages wait for a destination that is dead; another one is well."""
    count = 100_000 if lab.full else 400
    dead, live = lab.counting(start=False), lab.counting()
    gateway = lab.gateway(
        domain(dead.port, "dead.example", tls="none") + domain(live.port, tls="none", handover="spool") + ROOM
    )
    crowd(20, 5, lambda n: sent(gateway.port, serial(n), ["user@dead.example"]))
    empty = resident_mib(gateway.pid)
    done = [0]
    lock = threading.Lock()

    def deposit(share: int) -> None:
        with Wire(gateway.port, timeout=120.0) as wire:
            wire.hello()
            body = letter("waiting", b"Hello.\r\n" * 40)
            for number in range(share):
                wire.send(b"MAIL FROM:<a@stranger.example>\r\nRCPT TO:<user@dead.example>\r\nDATA\r\n")
                for _ in range(3):
                    wire.reply()
                wire.send(body + b".\r\n")
                assert wire.reply().code == 250
                if number % 100 == 99:
                    with lock:
                        done[0] += 100
                        if done[0] % 10_000 == 0:
                            progress(f"{done[0]:,} deposited")

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(deposit, [math.ceil(count / 20)] * 20))
    time.sleep(2.0)
    each = (resident_mib(gateway.pid) - empty) * 1024 / count
    beside = _to_the_living(gateway, live)
    assert gateway.stop() == 0
    began = time.monotonic()
    gateway.spawn(gateway.launch_command())
    until("a greeting", lambda: _greets(gateway.port), 300.0)
    started, worked = time.monotonic() - began, cpu_seconds(gateway.pid)
    restarted = resident_mib(gateway.pid)
    with noops(gateway.port) as asking:
        after = _to_the_living(gateway, live)
    entries = gateway.listed("spool", "list", "--domain", "dead.example")
    at = Counter(int(entry["next_attempt_at"]) for entry in entries)
    return [
        exactly("still there after a restart", len(entries), math.ceil(count / 20) * 20 + 20),
        Figure(f"memory for each of {count:,} that wait", each, "KiB", most=1.0, timed=not lab.full),
        Figure("start to greeting with all of them in the spool", started, "s", most=30, timed=True),
        Figure("processor time of that start", worked, "s", timed=True),
        Figure("memory after that start", restarted, "MiB"),
        Figure(
            "most retries due in one second, of all",
            max(at.values()) / len(entries) * 100,
            "%",
            most=10.0,
            timed=not lab.full,
        ),
        Figure("longest that another client waited after the start", asking.longest * 1000, "ms", most=250, timed=True),
        Figure("mail for a living host beside them, accepted to delivered", beside, "s", most=1.0, timed=True),
        Figure("the same right after the start, when all are being looked through", after, "s", timed=True),
    ]


def _greets(port: int) -> bool:
    with suppress(OSError, EOFError), Wire(port) as wire:
        return wire.reply().code == 220
    return False


def _to_the_living(gateway: Gateway, live: CountingPrimary) -> float:
    """The slowest of ten: from 250 to being there."""
    worst = 0.0
    for number in range(10):
        before = live.count()
        assert sent(gateway.port, serial(number), [f"user@{DOMAIN}"]) == 250
        began = time.monotonic()
        until("it is there", lambda before=before: live.count() > before, 60.0)
        worst = max(worst, time.monotonic() - began)
    return worst
