"""The Bayesian filter of a running gateway: untrained, trained by commands, and by what is released."""

from __future__ import annotations

import json
from pathlib import Path

from programs import Gateway, RecordingPrimary, Stage, domain, letter, post, until

CHECKS = (
    "[check bayes]\nuse = bayes\nweight.spam = 10\nlearn_released = yes\nmessages_for_update = 1\n"
    "[level low]\nthreshold = 10\naction = quarantine\n"
)
SPAM = b"Cheap replica watches, casino jackpot and miracle pills from http://pills.example/\r\n"
HAM = b"The minutes of the gardening club and the recipe for rhubarb cake are attached.\r\n"


def write_mbox(path: Path, body: bytes, count: int) -> Path:
    letters = [letter(f"number {number}", body + b"No. %d\r\n" % number) for number in range(count)]
    path.write_bytes(b"".join(b"From x@x.example Sat\n" + each.replace(b"\r\n", b"\n") + b"\n" for each in letters))
    return path


def outcome(gateway: Gateway, primary: RecordingPrimary, marker: str, body: bytes) -> str:
    assert post(gateway.port, letter(marker, body)).code == 250
    mail = primary.one(f"Subject: {marker}\r\n".encode())
    return mail.field("X-Spam-Checks")[0].partition("bayes=")[2].partition("(")[0]


def test_a_filter_is_trained_while_the_gateway_runs(play: Stage, tmp_path: Path) -> None:
    primary = play.recording()
    gateway = play.gateway(f"{domain(primary.port)}{CHECKS}")
    assert outcome(gateway, primary, "before", SPAM) == "untrained"
    spam, ham = write_mbox(tmp_path / "spam", SPAM, 110), write_mbox(tmp_path / "ham", HAM, 110)
    assert "110 messages: 110 learned" in gateway.command("train", "spam", str(spam))
    folder = tmp_path / "folder"
    folder.mkdir()
    ham.rename(folder / "box")
    told = json.loads(gateway.command("train", "ham", "--json", str(folder)))
    assert told == {"messages": 110, "learned": 110, "spam": 110, "ham": 110}
    names = iter(f"m{number}" for number in range(1000))
    until("the words are known", lambda: outcome(gateway, primary, next(names), HAM) == "ham")
    # What it takes for spam is quarantined; released by its id, it is learned as ham.
    assert post(gateway.port, letter("kept", SPAM)).code == 250
    (row,) = gateway.listed("quarantine", "list")
    gateway.command("quarantine", "release", row["id"])
    primary.one(b"Subject: kept\r\n")
    (learned,) = until("it is learned", lambda: gateway.log_events(event="learned"))
    assert learned["ham"] == 1
