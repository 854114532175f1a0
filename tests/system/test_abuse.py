"""Clients that do something too often, from many addresses: blocked, seen by both of two workers, undone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from programs import DOMAIN, Answer, Gateway, Wire, domain, letter, stage, until
from test_workers import pids

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]

RULES = """
[abuse connections]
window = 10m
limit = 40
block = 60m

[abuse bad-recipients]
window = 10m
limit = 20
block = 60m
notify = postmaster@here.example

[check everybody]
use = ratelimit
by = sender
limit = 3
window = 10m
"""
MANY = "198.51.100.7"
HARVESTER = "198.51.100.8"
HONEST = "192.0.2.7"


@pytest.fixture(scope="module")
def gateway(network: None) -> Iterator[Gateway]:
    with stage() as play:
        primary = play.recording()
        made = play.gateway(domain(primary.port) + RULES, gateway_keys="workers = 2\n")
        yield made
        assert made.faults() == []


def code(gateway: Gateway, source: str) -> int:
    with Wire(gateway.port, source=source) as wire:
        return wire.reply().code


def sends(gateway: Gateway, source: str, sender: str) -> int:
    with Wire(gateway.port, source=source) as wire:
        wire.hello()
        for answer in wire.envelope(sender, f"user@{DOMAIN}"):
            if answer.code != 250:
                return answer.code
        return wire.content(letter("honest")).code


def refused_by_all(gateway: Gateway, source: str) -> None:
    """Thirty in a row cannot all have come to the one worker that knew first."""
    until(f"{source} is refused by all workers", lambda: {code(gateway, source) for _ in range(30)} == {421})


def test_who_connects_too_often_is_blocked_in_all_workers_and_others_go_on(gateway: Gateway) -> None:
    assert [code(gateway, MANY) for _ in range(38)] == [220] * 38
    # Each worker hears a moment later what the other has counted.
    refused_by_all(gateway, MANY)
    assert [code(gateway, f"198.51.100.{number}") for number in range(20, 30)] == [220] * 10
    assert sends(gateway, HONEST, "one@sender.example") == 250

    def refusal() -> Answer | None:
        with Wire(gateway.port, source=MANY) as wire:
            answer = wire.reply()
        return answer if str(answer).startswith("421 4.7.0 your address is blocked for a while ") else None

    answer = until("it is said that there is a block", refusal)
    story = gateway.command("explain", answer.id)
    assert "refused at connect" in story and "by rule connections" in story
    [block] = gateway.listed("blocks", "list", "--matching", MANY)
    assert (block["value"], block["author"]) == (MANY, "rule connections")


def test_a_harvest_is_cut_off_at_twenty_and_then_blocked(gateway: Gateway) -> None:
    answers = []
    with Wire(gateway.port, source=HARVESTER) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<>")
        for number in range(200):
            try:
                answers.append(wire.ask(f"RCPT TO:<user{number}@elsewhere.example>").code)
            except (EOFError, OSError):
                break
    assert answers.count(550) <= 20 and len(answers) <= 21
    refused_by_all(gateway, HARVESTER)
    letters = until("somebody is told", lambda: gateway.log_events(event="alert_written"))
    assert len(letters) == 1 and letters[0]["recipient"] == "postmaster@here.example"
    assert sends(gateway, HONEST, "two@sender.example") == 250


def test_a_block_survives_a_kill_and_an_operator_ends_it(gateway: Gateway) -> None:
    gateway.kill9()
    gateway.start()
    assert {code(gateway, HARVESTER) for _ in range(10)} == {421}
    pids(gateway)
    assert gateway.command("blocks", "remove", HARVESTER) == f"unblocked: {HARVESTER}\n"
    # Whatever was counted about it is forgotten too.
    assert {code(gateway, HARVESTER) for _ in range(10)} == {220}
    [event] = until(
        "it is told",
        lambda: [each for each in gateway.log_events(event="list_entry_removed") if each["value"] == HARVESTER],
    )
    assert event["asked_by"]


def test_connections_of_all_workers_are_told_ended_and_blocked(gateway: Gateway) -> None:
    address = "198.51.100.9"
    wires = [Wire(gateway.port, source=address) for _ in range(6)]
    for number, wire in enumerate(wires):
        wire.hello(f"client{number}.example")
    wires[0].ask("MAIL FROM:<>")
    rows = [row for row in gateway.listed("connections") if row["address"] == address]
    assert sorted((row["helo"], row["stage"]) for row in rows) == [
        ("client0.example", "mail"), *((f"client{number}.example", "hello") for number in range(1, 6))
    ]  # fmt: skip
    first = next(row for row in rows if row["helo"] == "client0.example")
    assert gateway.command("connections", "end", first["id"]) == f"ended: {first['id']}\n"
    assert wires[0].reply().code == 421
    said = gateway.command("connections", "--block", address, "--for", "1h")
    assert said == f"blocked: {address}, 5 connections ended\n"
    assert [wire.reply().code for wire in wires[1:]] == [421] * 5
    assert {code(gateway, address) for _ in range(10)} == {421}


def test_rates_are_counted_by_all_workers_together(gateway: Gateway) -> None:
    assert [sends(gateway, HONEST, "often@sender.example") for _ in range(3)] == [250] * 3
    until("it is too often", lambda: {sends(gateway, HONEST, "often@sender.example") for _ in range(4)} == {451})
    assert sends(gateway, HONEST, "seldom@sender.example") == 250
