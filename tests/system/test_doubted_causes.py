"""A check that suddenly matches everything: its mail is held, an operator is told, and puts right what was kept."""

from __future__ import annotations

import json

import pytest
from programs import DOMAIN, Gateway, RecordingPrimary, Stage, domain, letter, post, until

# Whoever wrote the pattern meant something else.
SECTIONS = f"""
[check words]
use = headers
header = Subject
pattern = pills|
weight.match = reject
[causes]
at_least = 5
learning = 0s
notify = operator@{DOMAIN}
"""


@pytest.mark.timeout(120)
def test_what_a_check_gone_wild_refuses_is_held_and_delivered_once(play: Stage) -> None:
    primary: RecordingPrimary = play.recording()
    gateway: Gateway = play.gateway(domain(primary.port) + SECTIONS)
    answers = []
    for number in range(60):
        answers.append(post(gateway.port, letter(f"number {number}")))
        if answers[-1].code == 250 and number >= 10 and number % 10 == 0:
            break
    refused = [answer for answer in answers if answer.code == 554]
    kept = [answer for answer in answers if answer.code == 250]
    assert len(refused) + len(kept) == len(answers)
    assert len(refused) <= 30 and kept
    told = primary.one(b"speaks against more mail than usual")
    assert b"spool release --cause words" in b" ".join(told.content.split())
    rows = gateway.listed("spool", "list", "--cause", "words", "--state", "held")
    assert len(rows) == len(kept)
    status = json.loads(gateway.command("status", "--json"))
    assert "cause words=match" in json.dumps(status)
    story = gateway.command("explain", kept[0].id)
    assert "suspect words" in story and "words=match(reject)" in story
    for _ in range(2):
        # Nothing is left for the second.
        gateway.command("spool", "release", "--cause", "words", "--since", "1h", status=None)
    until("what was held is delivered", lambda: len(primary.received()) >= len(kept) + 1)
    gateway.drain()
    subjects = primary.subjects()
    assert sum(subjects.values()) == len(kept) + 1 and set(subjects.values()) == {1}


@pytest.mark.timeout(120)
def test_what_a_check_quarantined_wrongly_is_released_by_its_name_exactly_once(play: Stage) -> None:
    primary: RecordingPrimary = play.recording()
    levels = "[check words]\nuse = headers\nheader = Subject\nvalue = pills\nweight.match = 40\n"
    more = "[check pears]\nuse = headers\nheader = Subject\nvalue = pears\nweight.match = 40\n"
    gateway = play.gateway(domain(primary.port) + levels + more + "[level high]\naction = quarantine\n")
    for number in range(6):
        assert post(gateway.port, letter(f"{'pills' if number % 2 else 'pears'} {number}")).code == 250
    release = ("quarantine", "release", "--cause", "words", "--since", "1h")
    assert gateway.command(*release, "--dry-run").count("\n") >= 3
    gateway.command(*release)
    gateway.command(*release, status=None)
    until("three are delivered", lambda: len(primary.received()) >= 3)
    gateway.drain()
    assert primary.subjects() == {f"pills {number}": 1 for number in (1, 3, 5)}
    assert len(gateway.listed("quarantine", "list")) == 3
