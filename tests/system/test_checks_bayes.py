"""The Bayesian filter of a running gateway: untrained, trained by commands, and by what is released."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

from programs import Gateway, RecordingPrimary, Stage, domain, free_port, letter, post, until

from inboundmx.storage.bayes import BayesFile, Lesson

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


M = 1_000_000
MONSTERS = {
    "brackets": b"<" * M,
    "links": b"".join(b"<a href=http://d%d.example/?u=http%%3A//e%d.test/>x</a>" % (n, n) for n in range(10_000)),
    "entities": b"&amp;&#x41&no" * (M // 13),
    "words": b" ".join(b"word%d" % number for number in range(M // 10)),
    "open quotes": b"<a href='\"" * (M // 10),
    "one host": b"http://" + b"a." * (M // 2),
}


def test_every_monster_of_words_and_links_has_a_verdict(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(
        f"[dns]\nservers = 127.0.0.1:{free_port()}\ntimeout = 1s\n{domain(primary.port)}"
        "[check bayes]\nuse = bayes\ntimeout = 30s\n[check uri]\nuse = uribl\nzone = uri.test\ntimeout = 30s\n",
        start=False,
    )
    (gateway.folder / "data").mkdir(exist_ok=True)
    file = BayesFile(str(gateway.folder / "data"))
    for spam in (True, False):
        file.learn([Lesson(b"%d%d" % (spam, number), array("q", [number])) for number in range(100)], spam, 1.0)
    file.renew(10**6)
    file.close()
    gateway.start()
    for name, octets in MONSTERS.items():
        content = b"Subject: %b\r\nContent-Type: text/html\r\n\r\n" % name.encode() + wrapped(octets)
        assert post(gateway.port, content).code == 250, name
        told = primary.one(b"Subject: %b\r\n" % name.encode()).field("X-Spam-Checks")[0]
        # Whom the links lead to cannot be asked here.
        assert "bayes=unsure" in told and ("uri=error" if name == "links" else "uri=") in told, told
    assert "Traceback" not in gateway.errors.read_text()


def wrapped(octets: bytes) -> bytes:
    """Lines of SMTP; the breaks are none of what is tried."""
    return b"\r\n".join(octets[at : at + 900] for at in range(0, len(octets), 900)) + b"\r\n"
