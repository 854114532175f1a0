"""The wall clock jumps, under the real program: nothing ends early, nothing is stranded, nobody is put off anew.

Knows how far clocks jump. Intervals are the business of the other clock, which only grows.
"""

from __future__ import annotations

from figures import Figure, exactly
from lab import DOMAIN, Lab, domain, letter, progress, proxied, sent, serial, until
from programs import Gateway

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
PAST_2038 = 14 * 365 * DAY
JUMPS = {"an hour ahead": HOUR, "an hour back": -HOUR, "a day ahead": DAY, "a day back": -DAY, "past 2038": PAST_2038}
PEER, SENDER = "198.18.0.1", "known@stranger.example"


def _put_off(gateway: Gateway) -> bool:
    """Whether greylisting puts off whom it knew."""
    with proxied(gateway.proxied, PEER) as wire:
        wire.hello()
        return wire.envelope(SENDER, "user@grey.example")[1].code != 250


def jumps(lab: Lab) -> list[Figure]:
    """With mail that waits, one jump after the other; after each the primary comes back."""
    stranded = early = again = attempts = 0
    count = lab.times(20, 3)
    chosen = JUMPS if lab.full else {name: JUMPS[name] for name in ("a day back", "past 2038")}
    primary = lab.counting(start=False)
    gateway = lab.gateway(
        domain(primary.port, tls="none", greylisting="no")
        + domain(primary.port, "grey.example", tls="none")
        + "[check greylist]\nuse = greylist\n[greylisting]\nblock = 1s\n",
        launcher="warped",
    )
    # Known from now on: put off once, and let in after that.
    assert _put_off(gateway)
    gateway.pass_time(MINUTE)
    until("it is let in", lambda: not _put_off(gateway))
    sent(gateway.proxied, letter("known"), ["user@grey.example"], sender=SENDER, peer=PEER)
    number = 0
    for name, seconds in chosen.items():
        progress(name)
        for _ in range(count):
            number += 1
            assert sent(gateway.port, serial(number), [f"user@{DOMAIN}"]) == 250
        gateway.pass_time(2 * MINUTE)
        before = len(gateway.log_events(event="deferred"))
        gateway.jump(seconds)
        # Nothing is tried sooner for it, nor given up; a list of 15, 30, 60 … minutes goes on where it was.
        gateway.pass_time(10 * MINUTE)
        attempts += len(gateway.log_events(event="deferred")) - before
        if abs(seconds) <= DAY:
            again += _put_off(gateway)
        gateway.restart()
        if abs(seconds) <= DAY:
            again += _put_off(gateway)
        primary.start()
        for _ in range(40):
            gateway.pass_time(MINUTE)
            if not gateway.listed("spool", "list", "--state", "active", "--limit", "1"):
                break
        else:
            stranded += len(gateway.listed("spool", "list", "--state", "active"))
        primary.abort()
    early = sum(len(gateway.log_events(event=event)) for event in ("failed", "bounced", "expired"))
    serials = [number for number, _, _ in primary.taken() if number != "-"]
    return [
        exactly(
            f"not delivered of {number} messages that waited while the clock jumped ({', '.join(chosen)})",
            number - len(set(serials)),
            0,
        ),
        exactly("delivered twice", len(serials) - len(set(serials)), 0),
        exactly("given up early", early, 0),
        exactly("stranded in the spool, 40 minutes after the primary is back", stranded, 0),
        exactly("put off anew by greylisting, jumps of up to a day and restarts after them", again, 0),
        exactly("attempts sooner than the list says", attempts, 0),
    ]
