"""A disk that fails, and one without room: what was answered with 250 is never lost and never altered."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections import Counter

import pytest
from programs import Answer, Gateway, RecordingPrimary, Stage, Wire, domain, letter, post, small_disk, until

SENDERS = 6


class Load:
    """Strangers who keep sending numbered messages, and remember which serials were answered with 250."""

    def __init__(self, port: int, recipient: str) -> None:
        self._port = port
        self._recipient = recipient
        self._serials = itertools.count()
        self._stop = threading.Event()
        self.sent: dict[str, str] = {}
        self.accepted: set[str] = set()
        self._threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(SENDERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stop.is_set():
            try:
                with Wire(self._port, timeout=10) as wire:
                    wire.hello()
                    for _ in range(5):
                        self._one(wire, chance)
            except (OSError, EOFError, AssertionError):
                # Killed: come back, as mail servers do.
                time.sleep(0.02)

    def _one(self, wire: Wire, chance: random.Random) -> None:
        serial = f"serial{next(self._serials):06d}"
        size = chance.choice([100, 4000, 4000, 30_000, 300_000])
        content = letter(serial, chance.randbytes(size // 2).hex().encode() + b"\r\n.\r\n")
        self.sent[serial] = hashlib.sha256(content).hexdigest()
        if all(answer.code == 250 for answer in wire.envelope("a@stranger.example", self._recipient)):
            answer = wire.content(content)
            if answer.code == 250:
                self.accepted.add(serial)


def serials(primary: RecordingPrimary, load: Load) -> Counter[str]:
    """How often each serial arrived; an altered message fails."""
    arrived: Counter[str] = Counter()
    for mail in primary.received():
        serial = mail.field("Subject")[0]
        start = mail.content.index(b"From: <someone@")
        assert hashlib.sha256(mail.content[start:]).hexdigest() == load.sent[serial], f"{serial} was altered"
        arrived[serial] += 1
    return arrived


@pytest.mark.root
def test_a_disk_that_fails_is_451_and_what_was_promised_stays(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    small, large = b"small\r\n", b"d" * 400_000 + b"\r\n"
    assert post(gateway.port, letter("before, small", small)).code == 250
    assert post(gateway.port, letter("before, large", large)).code == 250

    saboteur = play.sabotage(gateway, "fsync,fdatasync:error=EIO")
    answers = [post(gateway.port, letter("meanwhile", body)) for body in (large, small, large, small)]
    saboteur.close()

    assert {answer.code for answer in answers} == {451}
    until("service again", lambda: post(gateway.port, letter("after", small)).code == 250)
    primary.start()
    gateway.drain()
    # What was refused is the stranger's to send again; a copy of it from us would be one too many.
    arrived = Counter(mail.field("Subject")[0] for mail in primary.received())
    assert arrived == {"before, small": 1, "before, large": 1, "after": 1}


@pytest.mark.root
def test_a_full_disk_is_452_and_heals(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port), start=False)
    with small_disk(gateway, "size=24m"):
        full_disk(gateway, primary)


def full_disk(gateway: Gateway, primary: RecordingPrimary) -> None:
    gateway.start()
    taken = 0
    for number in range(400):
        answer: Answer = post(gateway.port, letter(f"filling {number}", b"f" * 400_000 + b"\r\n"))
        if answer.code != 250:
            break
        taken += 1
    assert (answer.code, answer.enhanced) == (452, "4.3.1"), answer
    assert taken > 0
    # The last octets, for what is small.
    for number in range(2000):
        answer = post(gateway.port, letter(f"small {number}", b"s" * 20_000 + b"\r\n"))
        if answer.code != 250:
            break
        taken += 1
    assert (answer.code, answer.enhanced) == (452, "4.3.1"), answer

    primary.start()
    gateway.drain()
    assert post(gateway.port, letter("room again")).code == 250
    primary.one(b"room again")
    assert len({mail.field("Subject")[0] for mail in primary.received()}) == taken + 1
