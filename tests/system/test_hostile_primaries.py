"""Primaries that go wrong at every step: nothing is lost, nothing doubled without reason, nothing left open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile_primary import CLOSE, HANG, POLITE, STEPS, HostilePrimary
from programs import DOMAIN, PATIENCE, Answer, Gateway, Sink, Stage, Wire, domain, letter, post, until

MINUTE = 60.0


@pytest.fixture
def primaries() -> Iterator[Callable[..., HostilePrimary]]:
    made: list[HostilePrimary] = []

    def primary(**answers: bytes | Callable[[], bytes]) -> HostilePrimary:
        made.append(HostilePrimary(**answers))
        return made[-1]

    yield primary
    for each in made:
        each.close()


def sockets(gateway: Gateway) -> int:
    links = [os.readlink(each) for each in Path(f"/proc/{gateway.pid}/fd").iterdir() if each.is_symlink()]
    # Files it may keep open, but not without end.
    assert len(links) < 60
    return sum(link.startswith("socket:") for link in links)


def passes(gateway: Gateway, what: str, ask: Callable[[], object], minutes: int = 60) -> None:
    """In small steps, so that programs that answer at once are not out of time by the gateway's clock."""
    for _ in range(minutes * 6):
        if ask():
            return
        gateway.pass_time(10)
    pytest.fail(f"not within {minutes} minutes: {what}")


def posted(gateway: Gateway, subjects: dict[str, str]) -> dict[str, Answer]:
    """By many strangers at once, a subject for each domain; so much time passes for the gateway that none waits for a
    primary any more."""
    answers: dict[str, Answer] = {}

    def stranger(host: str, subject: str) -> None:
        answers[host] = post(gateway.port, letter(subject), recipients=[f"user@{host}"])

    strangers = [threading.Thread(target=stranger, args=pair, daemon=True) for pair in subjects.items()]
    for each in strangers:
        each.start()
    for each in strangers:
        each.join(0.5)
    for _ in range(7):
        if any(each.is_alive() for each in strangers):
            gateway.pass_time(5)
    for each in strangers:
        each.join(PATIENCE)
    return answers


def attempts(gateway: Gateway, host: str) -> int:
    """What became known of mail for ``host`` that could not be delivered."""
    return sum(f"user@{host}" in event["recipients"] for event in gateway.log_events(event="deferred"))


def serial(content: bytes) -> bytes:
    return content.partition(b"\r\nSubject: ")[2].partition(b"\r\n")[0]


FAULTS: dict[str, dict[str, bytes]] = {
    "hangs": dict.fromkeys(STEPS, HANG),
    "closes": dict.fromkeys(STEPS, CLOSE),
    "garbage": dict.fromkeys(STEPS, b"\x00\xff\x1b[31m what is this?\r\n" * 5),
    "half a reply and a close": dict.fromkeys(STEPS, b""),
    "ten thousand lines": {step: POLITE[step][:3] + b"-and so on\r\n" for step in STEPS},
    "an endless line": dict.fromkeys(STEPS, b"2" * 300_000),
    "has no time": dict.fromkeys(STEPS, b"421 4.3.2 not now\r\n"),
}
for _step in STEPS:
    FAULTS["ten thousand lines"][_step] *= 10_000
    FAULTS["half a reply and a close"][_step] = POLITE[_step][:3] + b"-no"


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_each_message_arrives_once(
    play: Stage, primaries: Callable[..., HostilePrimary], fault: str
) -> None:
    hosts: dict[str, HostilePrimary] = {}
    sections = ""
    for handover in ("cut-through", "spool"):
        for step in STEPS:
            name = f"{step}.{handover}.example"
            hosts[name] = primaries(**{step: FAULTS[fault][step]})
            sections += domain(hosts[name].port, name, handover=handover)
    if fault == "half a reply and a close":
        for host in hosts.values():
            host.hasty = True
    polite = primaries()
    gateway = play.gateway(sections + domain(polite.port, handover="spool"), launcher="warped")
    # What it opens once stays open.
    assert post(gateway.port, letter("before")).code == 250
    until("the first", lambda: polite.taken)
    gateway.pass_time(10 * MINUTE)
    before = sockets(gateway)

    answers = posted(gateway, {name: f"serial {name}" for name in hosts})

    assert {name: str(answer)[:20] for name, answer in answers.items()} == dict.fromkeys(hosts, "250 2.0.0 accepted a")
    # Nothing is settled by what was no answer, and nobody hears of it.
    gateway.pass_time(2 * MINUTE)
    assert {name: len(host.taken) for name, host in hosts.items()} == dict.fromkeys(hosts, 0)
    assert len(gateway.listed("spool", "list", "--state", "active")) == len(hosts)
    for host in hosts.values():
        host.relent()
    passes(gateway, "every message has arrived", lambda: all(host.taken for host in hosts.values()))
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])
    assert {name: [serial(each) for each in host.taken] for name, host in hosts.items()} == {
        name: [f"serial {name}".encode()] for name in hosts
    }
    for host in hosts.values():
        # A primary that has it already can tell by the id of our Received.
        assert len({content.partition(b"Subject: ")[0] for content in host.offered}) == 1
    passes(gateway, "every connection is closed", lambda: not sum(host.connections for host in hosts.values()))
    until("every descriptor is closed", lambda: sockets(gateway) <= before)
    assert gateway.log_events(event="bounced") == gateway.log_events(event="failed") == []


# --- encryption that goes wrong ---

OFFERS = b"250-primary.example\r\n250 STARTTLS\r\n"
NO, GO = b"454 4.7.0 no\r\n", b"220 go\r\n"
# What is answered to STARTTLS, and whether the mail may then go in the clear where that is allowed: where encryption
# fails it may, but whoever hangs up or slips something in may be somebody in between.
TLS_FAULTS = {
    "refuses after all": (NO, True),
    # It goes on in the clear, which no handshake can be made of.
    "no handshake": (GO, True),
    "closes": (CLOSE, False),
    "injects a reply": (GO + b"250-primary.example\r\n250 AUTH PLAIN\r\n", False),
    "injects half a reply": (GO + b"25", False),
}


@pytest.mark.parametrize("fault", TLS_FAULTS)
def test_broken_encryption(play: Stage, primaries: Callable[..., HostilePrimary], fault: str) -> None:
    """In the clear only where that is allowed, and whatever came before the encryption is not believed."""
    answer, in_the_clear = TLS_FAULTS[fault]
    plain, strict = (primaries(ehlo=OFFERS, starttls=answer) for _ in range(2))
    gateway = play.gateway(domain(plain.port) + domain(strict.port, "strict.example", tls="required"))

    for host in ("strict.example", DOMAIN):
        assert post(gateway.port, letter("encrypted or not"), recipients=[f"user@{host}"]).code == 250
    wait = {"strict.example"} if in_the_clear else {"strict.example", DOMAIN}
    until("an attempt at each", lambda: all(attempts(gateway, host) for host in wait))

    if in_the_clear:
        until("in the clear", lambda: plain.taken)
    assert {entry["domain"] for entry in gateway.listed("spool", "list", "--state", "active")} == wait
    assert len(plain.offered) == in_the_clear and strict.offered == []
    for primary in (strict, *([] if in_the_clear else [plain])):
        assert not any(line.upper().startswith((b"AUTH", b"MAIL")) for line in primary.said)


# --- primaries that mean it ---


def test_a_primary_that_greylists_us_gets_it_at_the_next_attempt(
    play: Stage, primaries: Callable[..., HostilePrimary]
) -> None:
    heard: dict[bytes, int] = {}
    primary = primaries()

    def once_bitten() -> bytes:
        recipient = primary.said[-1]
        heard[recipient] = heard.get(recipient, 0) + 1
        greylisted = heard[recipient] <= 2 and b"known" not in recipient
        return b"450 4.2.0 come back\r\n" if greylisted else POLITE["rcpt"]

    primary.answers = {"rcpt": once_bitten, "ehlo": b"250 primary.example\r\n"}
    gateway = play.gateway(domain(primary.port), launcher="warped")
    recipients = [f"known@{DOMAIN}", *(f"new{number}@{DOMAIN}" for number in range(4))]

    answer = post(gateway.port, letter("greylisted"), recipients=recipients)

    assert answer.code == 250, answer
    # Asked for all of them at once, then for each alone: who is known there does not wait for the others.
    until("the first copy", lambda: len(primary.taken) == 1)
    passes(gateway, "the rest", lambda: len(primary.taken) == 2, minutes=30)
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])
    assert sorted(heard.values()) == [2, 3, 3, 3, 3]
    assert gateway.log_events(event="bounced") == gateway.log_events(event="failed") == []


def test_forged_senders_of_mail_that_the_primary_refuses_hear_nothing_at_all(play: Stage) -> None:
    """Five hundred in session: the stranger has each back at once, nothing is kept, nobody else is told."""
    primary, home = play.recording(), play.recording()
    primary.script(dot="550 5.6.0 no")
    gateway = play.gateway(domain(primary.port) + domain(home.port, "home.example"))
    with Wire(gateway.port) as wire:
        wire.hello()
        for number in range(500):
            wire.send(f"MAIL FROM:<v{number}@home.example>\r\nRCPT TO:<u{number}@{DOMAIN}>\r\nDATA\r\n".encode())
            assert [wire.reply().code for _ in range(3)] == [250, 250, 354]
            wire.send(letter(f"n {number}") + b".\r\n")
            answer = wire.reply()
            assert (answer.code, answer.enhanced) == (550, "5.6.0"), answer
    assert gateway.listed("spool", "list") == []
    assert (primary.count(), home.count()) == (0, 0)


# --- another's hand at going wrong ---

COMMANDS = ("mail", "rcpt", "data", ".")
FAILS = [
    *((option, command) for option in ("-q", "-Q", "-r") for command in COMMANDS),
    *((option, "ehlo,helo") for option in ("-q", "-Q", "-r", "-f")),
]


def test_smtp_sinks_failing_modes_lose_and_double_nothing(play: Stage) -> None:
    sinks: dict[str, Sink] = {f"fails{number}.example": play.sink(*mode) for number, mode in enumerate(FAILS)}
    refusing = {f"refuses{number}.example": play.sink("-f", each) for number, each in enumerate(COMMANDS)}
    slow = play.sink("-W", ".:2:1")
    gateway = play.gateway(
        "".join(domain(sink.port, name) for name, sink in {**sinks, **refusing}.items())
        + domain(slow.port, handover_deadline="1s"),
        launcher="warped",
    )
    for name in sinks:
        answer = post(gateway.port, letter(f"serial {name}."), recipients=[f"user@{name}"])
        assert answer.code == 250, (name, answer)
    for name in refusing:
        answer = post(gateway.port, letter(f"serial {name}."), recipients=[f"user@{name}"])
        assert answer.code >= 500, (name, answer)
    assert post(gateway.port, letter("slow")).code == 250
    assert len(gateway.listed("spool", "list", "--state", "active")) >= len(sinks)

    for sink in sinks.values():
        sink.stop()
        sink.arguments = ()
        sink.start()

    def arrived(name: str) -> int:
        return sum(f"Subject: serial {name}.\n".encode() in message for message in sinks[name].messages())

    passes(gateway, "every message", lambda: all(arrived(name) for name in sinks))
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])
    doubled = {FAILS[number]: arrived(name) for number, name in enumerate(sinks) if arrived(name) != 1}
    assert doubled.keys() <= {("-q", "."), ("-Q", "."), ("-r", ".")}
    until("the slow one", lambda: len(slow.messages()) == 1)
