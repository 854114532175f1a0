"""Strangers under whose load a gateway is stopped, reloaded or changed, and what of their mail arrived.

Knows serials and hashes. Does not know what is done to the gateway meanwhile.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections import Counter

from programs import RecordingPrimary, Wire, letter

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
