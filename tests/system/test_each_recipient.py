"""Recipients who are judged apart, over real sockets: by a client that knows PRDR, and by one that does not."""

from __future__ import annotations

import subprocess

import pytest
from programs import DOMAIN, Gateway, RecordingPrimary, Stage, Wire, domain, letter, need, until

INI = """
[check pills]
use = headers
header = Subject
value = pills
weight.match = 12
[recipients strict]
match = strict@here.example
weight.pills.match = reject
[recipients waiting]
match = waiting@*
weight.pills.match = defer
[recipients relaxed]
match = relaxed@here.example
skip_checks = pills
"""
PLAIN, STRICT, WAITING, RELAXED = (f"{name}@{DOMAIN}" for name in ("user", "strict", "waiting", "relaxed"))


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


@pytest.fixture(scope="module")
def gateway(shared: Stage, primary: RecordingPrimary) -> Gateway:
    return shared.gateway(domain(primary.port) + INI)


def answers(gateway: Gateway, subject: str, *recipients: str) -> list[str]:
    """What swaks, which asks for PRDR, hears after the final dot."""
    done = subprocess.run(
        [need("swaks"), "--prdr", "--server", f"127.0.0.1:{gateway.port}", "--helo", "c.stranger.example",
         "--from", "a@b.example", "--to", ",".join(recipients), "--header", f"Subject: {subject}"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    said = done.stdout.partition("\n -> .\n")[2].partition(" -> QUIT")[0]
    return [line[4:] for line in said.splitlines() if line.startswith(("<-  ", "<** "))]


def test_each_hears_his_own(gateway: Gateway, primary: RecordingPrimary) -> None:
    started, *each, last = answers(gateway, "pills one", PLAIN, STRICT, WAITING)
    assert started == "353 content analysis has started"
    assert [line[:4] for line in (*each, last)] == ["250 ", "554 ", "451 ", "250 "]
    taken = primary.one(b"Subject: pills one")
    assert taken.recipients == (PLAIN,)
    stamps = taken.content.partition(b"\r\nDate:")[0]
    assert b"pills=match(12)" in stamps and b"strict" not in stamps and b"waiting" not in stamps
    id = last.split()[-1]
    story = until("both parts", lambda: _both(gateway.command("explain", id)))
    assert "settings of" in story
    assert f"handed over to 127.0.0.1:{primary.port}" in story


def _both(story: str) -> str:
    return story if "handed over" in story and story.count("refused at the final dot") == 2 else ""


def test_two_sets_of_stamps_are_two_transmissions_by_the_disk(gateway: Gateway, primary: RecordingPrimary) -> None:
    _, *each, last = answers(gateway, "pills two", PLAIN, RELAXED, STRICT)
    assert [line[:4] for line in (*each, last)] == ["250 ", "250 ", "554 ", "250 "]
    mails = until("both copies", lambda: (f := [m for m in primary.received() if b"pills two" in m.content])[1:] and f)
    told = {mail.recipients[0]: b"pills=match(12)" in mail.content for mail in mails}
    assert told == {PLAIN: True, RELAXED: False}


def test_where_nothing_differs_one_answer_does(gateway: Gateway, primary: RecordingPrimary) -> None:
    (only,) = answers(gateway, "tea", PLAIN, STRICT, WAITING)
    assert only.startswith("250 2.0.0 ")
    assert primary.one(b"Subject: tea").recipients == (PLAIN, STRICT, WAITING), "one transmission for them all"


def test_without_it_one_answer_holds_for_all(gateway: Gateway, primary: RecordingPrimary) -> None:
    with Wire(gateway.port) as wire:
        assert "PRDR" in wire.hello().lines
        wire.envelope("a@b.example", PLAIN, WAITING)
        assert wire.ask("DATA").code == 354
        assert wire.ask(letter("pills three").decode() + ".").code == 451
        wire.envelope("a@b.example", PLAIN, STRICT)
        assert wire.ask("DATA").code == 354
        assert wire.ask(letter("pills four").decode() + ".").code == 250
    assert primary.one(b"Subject: pills four").recipients == (PLAIN,)
    kept = until("the other's", lambda: gateway.command("quarantine", "list", "--recipient", STRICT))
    assert STRICT in kept
    assert not [mail for mail in primary.received() if b"pills three" in mail.content]
