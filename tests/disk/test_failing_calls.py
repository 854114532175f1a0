"""Each call that keeps mail fails once: its message is refused for now, or kept all the same, and never both; nothing
is synced a second time as if nothing had been; an operator is told; and it goes on.

``make disk`` lets many more of them fail.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import DOMAIN, Gateway, Saboteur, Stage, Wire, domain, letter, post, stuffed, until

LONG = bool(os.environ.get("INBOUNDMX_LONG"))
# In a page with others, in pages of its own, in a file.
SIZES = {"small": 900, "pages": 100_000, "file": 400_000}

_CALL = re.compile(r"(?P<name>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)(?P<behind>.*)$")
_PATH = re.compile(r"<([^>]*)>")

pytestmark = pytest.mark.root


class Case(NamedTuple):
    """The ``when``-th such call on the file that ``name`` stands for fails. ``also``: further things that go wrong."""

    name: str
    call: str
    error: str
    when: int = 1
    also: str = ""


def body(kind: str) -> bytes:
    return b"x" * SIZES[kind] + b"\r\n"


def spool_of(gateway: Gateway) -> Path:
    return gateway.data / "spool" / "0"


def live(gateway: Gateway) -> tuple[int, Path]:
    """The generation of the file in use, and the file."""
    found = [re.fullmatch(r"spool(?:-(\d+))?\.sqlite", path.name) for path in spool_of(gateway).iterdir()]
    number = max(int(match[1] or 1) for match in found if match)
    return number, spool_of(gateway) / ("spool.sqlite" if number == 1 else f"spool-{number}.sqlite")


class Trial:
    """One gateway whose disk fails again and again; what it said of each message."""

    def __init__(self, play: Stage) -> None:
        self._play = play
        self.primary = play.recording(start=False)
        self.gateway = play.gateway(domain(self.primary.port))
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.hits = 0
        self._numbers: Counter[str] = Counter()

    def offer(self, kind: str) -> int:
        self._numbers[kind] += 1
        subject = f"{kind} {self._numbers[kind]}"
        return self._said(subject, post(self.gateway.port, letter(subject, body(kind))).code)

    def _said(self, subject: str, code: int) -> int:
        assert code in {250, 451, 452}, (subject, code)
        (self.accepted if code == 250 else self.refused).add(subject)
        return code

    def suffer(self, case: Case) -> None:
        number, path = live(self.gateway)
        log = Path(f"{path}-wal")
        part = path.with_name(f"spool-{number + 1}.sqlite.part")
        files = {
            "log": [log],
            "database": [path],
            "folder of bodies": [spool_of(self.gateway) / "bodies"],
            # Made when the log was condemned.
            "next file": [log, part],
            "next log": [log, Path(f"{part}-wal")],
            "folder": [log, spool_of(self.gateway)],
        }[case.name]
        before = len(self.gateway.log_events())
        inject = f"{case.call}:error={case.error}:when={case.when}"
        saboteur = self._play.sabotage(self.gateway, " ".join(filter(None, (case.also, inject))), *files)
        codes = [self.offer(kind) for kind in ("small", "file", "pages", "small")]
        self._judge(case, saboteur, codes, before)

    def suffer_half_way(self, call: str, error: str) -> None:
        """The file of a large body fails: its name is known once the half of it is there."""
        before = len(self.gateway.log_events())
        self._numbers["half"] += 1
        subject = f"half {self._numbers['half']}"
        octets = stuffed(letter(subject, body("file")))
        with Wire(self.gateway.port) as wire:
            wire.hello()
            wire.envelope("someone@stranger.example", f"user@{DOMAIN}")
            assert wire.ask("DATA").code == 354
            wire.send(octets[:350_000])
            (path,) = until("the file", lambda: [*(spool_of(self.gateway) / "incoming").iterdir()])
            saboteur = self._play.sabotage(self.gateway, f"{call}:error={error}:when=1", path)
            wire.send(octets[350_000:] + b".\r\n")
            code = self._said(subject, wire.reply().code)
        assert code == (451 if error == "EIO" else 452)
        self._judge(Case("body", call, error), saboteur, [code, self.offer("file")], before)
        assert [*(spool_of(self.gateway) / "incoming").iterdir()] == []

    def _judge(self, case: Case, saboteur: Saboteur, codes: list[int], before: int) -> None:
        saboteur.close()
        calls = [found for line in saboteur.errors.read_text().splitlines() if (found := _CALL.search(line))]
        hits = [call for call in calls if "INJECTED" in call["behind"]]
        self.hits += bool(hits)
        if any(code != 250 for code in codes):
            assert hits, (case, codes, "it was refused without need")
            until(f"an alarm about {case}", lambda: self._alarms(before))
        for number, call in enumerate(calls):
            # What is only in the making is begun anew under the same name.
            if call["name"] in ("fsync", "fdatasync") and call["result"] != "0" and ".part" not in call["rest"]:
                path = _PATH.search(call["rest"])
                again = [_PATH.search(later["rest"]) for later in calls[number + 1 :] if later["name"] == call["name"]]
                assert path and path[1] not in {found[1] for found in again if found}, (case, path[1], "synced again")
        until("service again", self._serves)

    def _serves(self) -> bool:
        # It tries again every few seconds; whoever asks more often is only refused more often.
        if self.offer("small") == 250:
            return True
        time.sleep(0.2)
        return False

    def _alarms(self, before: int) -> list[object]:
        return [event for event in self.gateway.log_events()[before:] if event["level"] == "error"]

    def end(self) -> None:
        """What was promised arrives, once; what was refused does not."""
        self.primary.start()
        self.gateway.drain()
        assert self.gateway.listed("spool", "list") == []
        assert self.primary.subjects() == dict.fromkeys(self.accepted, 1)


def cases() -> Iterator[Case]:
    if not LONG:
        yield from (
            Case("log", "fdatasync", "EIO"), Case("log", "fdatasync", "ENOSPC", 2), Case("log", "pwrite64", "EIO", 3),
            Case("log", "pwrite64", "ENOSPC", 30), Case("log", "pwrite64", "EDQUOT", 9),
            Case("folder of bodies", "fsync", "EIO"), Case("folder of bodies", "openat", "EIO"),
            Case("next file", "rename", "EIO", also="fdatasync:error=EIO:when=1"),
        )  # fmt: skip
        return
    for error in ("EIO", "ENOSPC", "EDQUOT"):
        yield from (Case("log", "fdatasync", error, when) for when in range(1, 7))
        yield from (Case("log", "pwrite64", error, when) for when in range(1, 51))
        for call in ("fsync", "openat"):
            yield Case("folder of bodies", call, error)
        for call, most in (("openat", 3), ("rename", 1), ("pwrite64", 6), ("ftruncate", 1)):
            condemned = "fdatasync:error=EIO:when=1"
            for when in range(1, most + 1):
                yield Case("next file", call, error, when, condemned)
                yield Case("next log", call, error, when, condemned)
        for when in range(1, 5):
            # Of the log first, then of the folder in which the next file gets its name.
            yield Case("folder", "fsync", error, when, "fdatasync:error=EIO:when=1")


def test_a_call_that_fails_costs_its_message_a_451_and_nothing_else(play: Stage) -> None:
    trial, tried = Trial(play), [*cases()]
    for case in tried:
        trial.suffer(case)
    print(f"{len(tried)} faults tried, {trial.hits} met: {len(trial.accepted)} promised, {len(trial.refused)} refused")
    trial.end()
    assert trial.hits > len(tried) / 2 and trial.refused


def test_a_body_whose_file_fails_is_refused_and_nothing_is_left_of_it(play: Stage) -> None:
    trial = Trial(play)
    for call in ("write", "fsync", "rename"):
        for error in ("EIO", "ENOSPC", "EDQUOT") if LONG else ("EIO", "ENOSPC"):
            trial.suffer_half_way(call, error)
    trial.end()


def test_what_cannot_be_read_is_put_aside_and_the_others_flow(play: Stage) -> None:
    """Small bodies, which are in the database."""
    for when in range(1, 21) if LONG else (2,):
        trial = Trial(play)
        for _ in range(6):
            assert trial.offer("pages") == 250
        # What was just kept is still in memory.
        trial.gateway.restart()
        saboteur = play.sabotage(trial.gateway, f"pread64:error=EIO:when={when}", live(trial.gateway)[1])
        trial.primary.start()
        trial.gateway.drain()
        saboteur.close()
        assert "INJECTED" in saboteur.errors.read_text()
        left = trial.gateway.listed("spool", "list")
        assert {row["state"] for row in left} <= {"held"}
        assert len(trial.gateway.log_events(event="held")) == len(left)
        # The disk was the fault, not what is on it.
        trial.gateway.command("spool", "release", "--state", "held", status=None)
        trial.gateway.drain()
        assert trial.primary.subjects() == dict.fromkeys(trial.accepted, 1), when
        trial.gateway.stop()
        trial.primary.stop()
