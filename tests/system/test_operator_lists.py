"""Lists on the real gateway: what an operator says holds in every worker at once, survives, and is undone."""

from __future__ import annotations

import json

from programs import Answer, Gateway, Stage, Wire, domain, free_port, letter, post
from test_workers import only, pids

SECTIONS = """
[check senders]
use = blocked

[lists]
blacklist = 127.0.0.99
"""
TWO = "workers = 2\n"
ODD = ('"x\'||(select 1)||\'"@a.test', '"%\';drop--"@a.test', "100%@a.test")


def greeted(gateway: Gateway, source: str) -> Answer:
    with Wire(gateway.port, source=source) as wire:
        return wire.reply()


def at_each(gateway: Gateway, running: list[int], *sources: str) -> list[int]:
    """What each worker says to a client from each of these addresses; both say the same."""
    said = []
    for number in range(len(running)):
        with only(number, running):
            said.append([greeted(gateway, source).code for source in sources])
    assert said[0] == said[1]
    return said[0]


def test_what_an_operator_says_holds_everywhere_and_lasts(play: Stage) -> None:
    gateway = play.gateway(domain(free_port()) + SECTIONS, gateway_keys=TWO)
    running = pids(gateway)
    assert at_each(gateway, running, "127.0.0.99", "127.0.0.66") == [554, 220]

    gateway.command("lists", "add", "blacklist", "127.0.0.64/29", "--reason", "spam run")
    assert at_each(gateway, running, "127.0.0.66") == [554]
    answer = greeted(gateway, "127.0.0.66")
    assert str(answer).startswith("554 5.7.1 ")
    assert "127.0.0.64/29 (spam run, by" in gateway.command("explain", answer.id)
    gateway.command("lists", "add", "whitelist", "127.0.0.66", "--smtp", "--for", "1h")
    assert at_each(gateway, running, "127.0.0.66", "127.0.0.67") == [220, 554]

    gateway.kill9()
    rows = gateway.listed("lists", "list")
    assert [(row["value"], row["key"]) for row in rows] == [
        ("127.0.0.66", None), ("127.0.0.64/29", None), ("127.0.0.99", "blacklist")
    ]  # fmt: skip
    gateway.command("lists", "remove", "whitelist", "127.0.0.66")
    gateway.start()
    assert at_each(gateway, pids(gateway), "127.0.0.66", "127.0.0.72", "127.0.0.99") == [554, 220, 554]
    # The kill may have cost the log its last second, and what is done to files is in the ledger.
    first = gateway.log_events(event="list_entry_added")[0]
    assert (first["value"], first["reason"], "uid" in first["asked_by"]) == ("127.0.0.64/29", "spam run", True)


def test_senders_are_only_text(play: Stage) -> None:
    """What would be SQL elsewhere, or a pattern."""
    gateway = play.gateway(domain(free_port()) + SECTIONS)
    gateway.command("lists", "add", "blocked-sender", *ODD, "*.worse.example")
    for sender in (*ODD, "x@a.worse.example"):
        refused = post(gateway.port, letter("x"), sender=sender)
        assert str(refused).startswith("550 5.7.1 mail refused by check senders"), sender
    assert {row["value"] for row in gateway.listed("lists", "list", "blocked-sender")} == {*ODD, "*@*.worse.example"}
    assert [row["value"] for row in gateway.listed("lists", "list", "--matching", "0%@")] == [ODD[2]]
    for sender in ("%@a.test", '"x"@a.test', "1@a.test"):
        with Wire(gateway.port) as wire:
            wire.hello()
            assert wire.ask(f"MAIL FROM:<{sender}>").code == 250, sender
    gateway.command("lists", "remove", "blocked-sender", ODD[1])
    assert len(json.loads(gateway.command("lists", "list", "blocked-sender", "--json"))) == 3
