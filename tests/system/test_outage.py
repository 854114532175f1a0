"""A primary that is away for a day, with a real smtp-sink that is stopped and started, and a clock put forward."""

from __future__ import annotations

import pytest
from programs import DOMAIN, Gateway, Sink, Stage, domain, letter, post, until

MINUTE, HOUR = 60.0, 3600.0
BURST = 40


@pytest.fixture
def sink(play: Stage) -> Sink:
    return play.sink()


@pytest.fixture
def gateway(play: Stage, sink: Sink) -> Gateway:
    return play.gateway(domain(sink.port, mode="backup"), launcher="warped")


def attempts(gateway: Gateway) -> list[int]:
    return [entry["attempts"] for entry in gateway.listed("spool", "list")]


def send(gateway: Gateway, subject: str) -> None:
    answer = post(gateway.port, letter(subject))
    assert answer.code == 250, answer


def marked(sink: Sink, word: str) -> int:
    return sum(f"Subject: {word}".encode() in message for message in sink.messages())


def test_every_message_of_a_day_arrives_within_a_minute_of_the_primarys_return(gateway: Gateway, sink: Sink) -> None:
    send(gateway, "before")
    until("handed over while the primary is up", lambda: marked(sink, "before") == 1)
    sink.stop()
    for number in range(BURST):
        send(gateway, f"burst{number:03}")
    for slot in (1, 2, 3, 4):
        # Time passes from timer to timer: what the last of them set off may still be on its way to the disk.
        until(f"attempt {slot} of every message", lambda slot=slot: attempts(gateway) == [slot] * BURST)
        gateway.pass_time(10 * MINUTE + 10)
    # The list says 10/10/10/1440: after the fourth attempt a day goes by, and only a probe knocks.
    late = []
    for hour in range(1, 21):
        gateway.pass_time(HOUR)
        late.append(f"late{hour:03}")
        send(gateway, late[-1])
    assert len(attempts(gateway)) == BURST + len(late)
    assert marked(sink, "") == 1
    assert set(gateway.listed("spool", "list", "--state", "held")) == set()

    sink.start()
    gateway.pass_time(60)
    until("everything is delivered", lambda: not attempts(gateway))
    until("everything has arrived", lambda: len(sink.messages()) == 1 + BURST + len(late))
    assert [marked(sink, word) for word in ("burst000", f"burst{BURST - 1:03}", *late)] == [1] * (2 + len(late))
    send(gateway, "after")
    until("handed over at once again", lambda: marked(sink, "after") == 1)
    assert gateway.log_events(event="bounced") == []
    assert len(gateway.log_events(event="host_down")) == len(gateway.log_events(event="host_up")) == 1


def test_after_the_last_attempt_mail_is_held_and_can_be_released(gateway: Gateway, sink: Sink) -> None:
    sink.stop()
    send(gateway, "patient")
    gateway.pass_time(30 * MINUTE + 30)
    until("the fourth attempt", lambda: attempts(gateway) == [4])
    gateway.pass_time(1440 * MINUTE * 1.02)
    until("the fifth attempt", lambda: attempts(gateway) == [5])
    [entry] = gateway.listed("spool", "list")
    assert entry["state"] == "held"
    assert entry["recipients"][0]["address"] == f"user@{DOMAIN}"
    sink.start()
    gateway.pass_time(60)
    assert marked(sink, "patient") == 0
    gateway.command("spool", "release", entry["id"])
    until("released and delivered", lambda: marked(sink, "patient") == 1)
