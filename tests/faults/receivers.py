"""Primaries that do not do as they should: they greylist us, know not everybody, and go wrong at every step.

Knows what must become of the mail then. The same at every step, with every handover, is in
``tests/system/test_hostile_primaries.py``; here are the large numbers.
"""

from __future__ import annotations

import time
from collections import Counter

from figures import Figure, exactly
from hostile_primary import STEPS, HostilePrimary
from lab import (
    DOMAIN,
    CountingPrimary,
    Lab,
    crowd,
    descriptors,
    domain,
    letter,
    progress,
    resident_mib,
    sent,
    serial,
    until,
)
from programs import Gateway
from test_hostile_primaries import FAULTS

MINUTE = 60.0
AT_ONCE = 20


def _arrived(primary: CountingPrimary) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for number, _, recipients in primary.taken():
        for recipient in recipients:
            found[number, recipient] += 1
    return found


def _empty(gateway: Gateway) -> bool:
    return gateway.listed("spool", "list", "--limit", "1") == []


def greylisting(lab: Lab) -> list[Figure]:
    """One of two recipients of each message is put off by the primary at first."""
    count = lab.times(1000, 60)
    primary = lab.counting()
    gateway = lab.gateway(domain(primary.port, tls="none"), launcher="warped")
    found = crowd(count, AT_ONCE, lambda n: sent(gateway.port, serial(n), [f"user@{DOMAIN}", f"later{n}@{DOMAIN}"]))
    until("copies for those whom it knows", lambda: primary.count() >= count, 60.0)
    others = sum(recipients == (f"user@{DOMAIN}",) for _, _, recipients in primary.taken())
    progress("the retry")
    # The first of the list comes after 15 minutes.
    for _ in range(17):
        gateway.pass_time(MINUTE)
    until("every retry to be over", lambda: primary.count() >= 2 * count or _empty(gateway), 60.0)
    arrived = _arrived(primary)
    return [
        exactly(
            "messages for one whom the primary greylists and one whom it knows, not accepted",
            count - found.codes[250],
            0,
        ),
        exactly("copies that waited for somebody else's retry", count - others, 0),
        exactly("not delivered by the first retry", 2 * count - len(arrived), 0),
        exactly("delivered twice", sum(arrived.values()) - len(arrived), 0),
    ]


def one_of_three(lab: Lab) -> list[Figure]:
    """The primary knows two of three recipients; every third message has the null sender."""
    count = lab.times(300, 30)
    primary = lab.counting()
    gateway = lab.gateway(
        domain(primary.port, tls="none", handover="spool", bounce="always")
        + domain(primary.port, "sender.example", tls="none", handover="spool")
    )
    to = [f"one@{DOMAIN}", f"gone@{DOMAIN}", f"two@{DOMAIN}"]
    crowd(count, AT_ONCE, lambda n: sent(gateway.port, serial(n), to, sender=f"s{n}@sender.example" if n % 3 else ""))
    until("an empty spool", lambda: _empty(gateway), 60.0)
    arrived = _arrived(primary)
    told = Counter(recipient for number, _, (recipient, *_) in primary.taken() if number == "-")
    expected = sum(1 for n in range(count) if n % 3)
    for_two = {pair: times for pair, times in arrived.items() if pair[0] != "-"}
    return [
        exactly(
            "copies for the two that exist, missing or repeated",
            abs(2 * count - len(for_two)) + sum(for_two.values()) - len(for_two),
            0,
        ),
        exactly(
            "senders who were not told of the third, exactly once",
            expected - sum(times == 1 for times in told.values()),
            0,
        ),
        exactly("notices to nobody", sum(not to.endswith("@sender.example") for to in told), 0),
    ]


def nothing_leaks(lab: Lab) -> list[Figure]:
    """Every fault at every step, again and again: memory and descriptors come back."""
    hosts: dict[str, HostilePrimary] = {}
    faults = FAULTS if lab.full else {name: FAULTS[name] for name in ("closes", "garbage")}
    for number, answers in enumerate(faults.values()):
        for step in STEPS:
            host = HostilePrimary()
            lab.close_later(host.close)
            hosts[f"{step}.f{number}.example"] = host
            host.fault = {step: answers[step]}  # type: ignore[attr-defined]
    gateway = lab.gateway(
        "".join(domain(host.port, name, tls="none", handover="spool") for name, host in hosts.items()),
        launcher="warped",
    )
    names = list(hosts)

    def round_of_mail() -> None:
        for host in hosts.values():
            host.answers = dict(host.fault)  # type: ignore[attr-defined]
            host.hasty = True
        crowd(
            len(names) * each,
            AT_ONCE,
            lambda n: sent(gateway.port, letter("x", b"y" * 3000 + b"\r\n"), [f"user@{names[n % len(names)]}"]),
        )
        gateway.pass_time(2 * MINUTE)
        for host in hosts.values():
            host.relent()
        deadline = time.monotonic() + 120
        while not _empty(gateway) and time.monotonic() < deadline:
            gateway.pass_time(MINUTE)
        gateway.pass_time(2 * MINUTE)

    each = lab.times(10, 2)
    round_of_mail()
    memory, open_then = resident_mib(gateway.pid), descriptors(gateway.pid)
    rounds = 3 if lab.full else 1
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        round_of_mail()
    for _ in range(20):
        if descriptors(gateway.pid) <= open_then and _empty(gateway):
            break
        gateway.pass_time(MINUTE / 2)
    offered = (rounds + 1) * each * len(names)
    lost = offered - sum(len(host.taken) for host in hosts.values())
    return [
        exactly(
            f"lost, of {offered} messages to {len(names)} primaries, each failing in its own way",
            max(lost, 0),
            0,
        ),
        Figure("descriptors more than after the first round", descriptors(gateway.pid) - open_then, most=0),
        Figure("memory more than after the first round", resident_mib(gateway.pid) - memory, "MiB", most=8, timed=True),
        exactly("left in the spool", 0 if _empty(gateway) else 1, 0),
    ]
