"""A gateway that is traced from its first call to its last while strangers send to it: what it promised, and when.

Knows how mail is sent and told apart; does not know what a disk makes of it.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import traces
from programs import Gateway, RecordingPrimary, letter, need, post, until
from traces import Call

_ACCEPTED = re.compile(rb"250 2\.0\.0 accepted as (\w+)")
_KEPT = re.compile(rb"250 2\.0\.0 kept as (\d+)")
# In a page with others, in pages of their own, and in a file. A hundred of them make a checkpoint necessary.
# Some that come together are enough for a file that they share.
SIZES = (600, 3000, 9000, 1500, 200_000, 90_000, 120_000, 200_000, 3000, 9000, 600, 300_000, 3000, 600, 9000)


def letters(count: int, seed: int = 1, sizes: Sequence[int] = SIZES) -> list[bytes]:
    chance = random.Random(seed)
    return [
        letter(f"serial {number}", chance.randbytes(sizes[number % len(sizes)] // 2).hex().encode() + b"\r\n")
        for number in range(count)
    ]


class Traced:
    """``gateway`` is not started yet. ``inject``: calls of it that fail, as strace -e inject=…"""

    def __init__(self, gateway: Gateway, *inject: str) -> None:
        need("strace")
        self.gateway = gateway
        self.trace = gateway.folder / "trace"
        self.digests: dict[str, bytes] = {}
        self.sent: set[bytes] = set()
        self.codes: list[int] = []
        gateway.through = traces.command(self.trace, *inject)
        gateway.start()

    def send(self, mails: Sequence[bytes], senders: int) -> None:
        with ThreadPoolExecutor(senders) as pool:
            for octets, answer in zip(mails, pool.map(lambda o: post(self.gateway.port, o), mails), strict=True):
                digest = hashlib.sha256(octets).digest()
                self.sent.add(digest)
                self.codes.append(answer.code)
                if answer.code == 250:
                    self.digests[answer.id] = digest

    def end(self) -> list[Call]:
        """Stops it; everything it did."""
        pid = self.gateway.pid
        assert self.gateway.stop() == 0
        until("the whole trace", lambda: traces.ended(self.trace, pid))
        return traces.read(self.trace)


def promises(call: Call) -> Iterator[str]:
    """The ids that a call says 250 for."""
    if call.name in ("sendto", "sendmsg") or call.writes:
        yield from (id.decode() for id in _ACCEPTED.findall(call.data))


def handed_over(call: Call, primary: RecordingPrimary, digests: dict[bytes, str]) -> Iterator[str]:
    """The ids that a primary has taken, as it says in what a call reads. ``digests``: to ids."""
    if call.name == "recvfrom":
        for name in _KEPT.findall(call.data):
            octets = (primary.folder / f"{name.decode()}.eml").read_bytes()
            yield digests[hashlib.sha256(octets[octets.index(b"From: <someone@") :]).digest()]
