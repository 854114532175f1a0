"""Mail of every kind, made up from a seed: what strangers send in the long runs, and from where.

Knows shapes and sizes of mail, and the names and addresses they come from. Does not send anything.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass

from counting_primary import digest
from programs import stuffed

SPF_DOMAINS = tuple(f"s{number}.stranger.example" for number in range(40))
SIGNER = SPF_DOMAINS[0]
LETTERS = 400
# Where a stranger of ours may come from: 192.0.2.0/25 is well known, 203.0.113.0/24 is on the list.
KNOWN, LISTED, OTHERS = "192.0.2.{}", "203.0.113.{}", "198.51.100.{}"


@dataclass(frozen=True, slots=True)
class Letter:
    """As it goes over the wire, dots stuffed and ended: ``before`` and ``after`` its serial. ``digest``: of what
    follows the serial."""

    before: bytes
    after: bytes
    digest: str
    sender: str

    def wired(self, serial: str) -> bytes:
        return b"%bX-Serial: %b\r\n%b.\r\n" % (self.before, serial.encode(), self.after)


@dataclass(frozen=True, slots=True)
class Errand:
    """One message to be sent: from where, for whom, and what kind of stranger it is that sends it."""

    letter: Letter
    source: str
    sender: str
    recipients: tuple[str, ...]
    manner: str


def _body(chance: random.Random, octets: int) -> bytes:
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz.", k=chance.randrange(1, 12))) for _ in range(300)]
    lines, size = [], 0
    while size < octets:
        line = b" ".join(chance.choices(words, k=chance.randrange(1, 12))) + b"\r\n"
        lines.append(line if chance.random() > 0.05 else b"." + line)
        size += len(line)
    return b"".join(lines)


def _plain(chance: random.Random) -> tuple[bytes, bytes]:
    return b"Content-Type: text/plain\r\n", _body(chance, chance.choice((0, 300, 1500, 4000, 4000, 12_000)))


def _in_utf_8(chance: random.Random) -> tuple[bytes, bytes]:
    text = "Grüße, 您好, привет — und nochmals.\r\n".encode()
    return b'Content-Type: text/plain; charset="utf-8"\r\n', text * chance.randrange(1, 200)


def _attached(chance: random.Random) -> tuple[bytes, bytes]:
    octets = base64.encodebytes(chance.randbytes(chance.choice((20_000, 60_000, 200_000)))).replace(b"\n", b"\r\n")
    body = b"--b\r\nContent-Type: text/plain\r\n\r\n" + _body(chance, 500)
    body += b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + octets + b"--b--\r\n"
    return b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n', body


def _nested(chance: random.Random) -> tuple[bytes, bytes]:
    depth = chance.randrange(5, 60)
    body = b"".join(
        b'--b%d\r\nContent-Type: multipart/mixed; boundary="b%d"\r\n\r\n' % (n, n + 1) for n in range(depth)
    )
    return b'Content-Type: multipart/mixed; boundary="b0"\r\n', body + _body(chance, 200)


def _headed(chance: random.Random) -> tuple[bytes, bytes]:
    fields = b"".join(b"X-Field-%d: %b\r\n" % (n, b"v" * chance.randrange(300)) for n in range(chance.randrange(300)))
    return fields, _body(chance, 500)


def _large(chance: random.Random) -> tuple[bytes, bytes]:
    return b"Content-Type: text/plain\r\n", _body(chance, 60_000) * chance.choice((5, 20, 60))


SHAPES: dict[Callable[[random.Random], tuple[bytes, bytes]], float] = {
    _plain: 62, _in_utf_8: 10, _attached: 15, _nested: 5, _headed: 7.5, _large: 0.5,
}  # fmt: skip


class Corpus:
    """Letters, and errands with them. ``sign``: makes a signed letter of an unsigned one."""

    def __init__(self, seed: int, sign: Callable[[bytes], bytes]) -> None:
        self._chance = chance = random.Random(seed)
        shapes = chance.choices(list(SHAPES), SHAPES.values(), k=LETTERS)
        self._letters = [self._letter(shape, number, sign) for number, shape in enumerate(shapes)]

    def _letter(
        self, shape: Callable[[random.Random], tuple[bytes, bytes]], number: int, sign: Callable[[bytes], bytes]
    ) -> Letter:
        chance = self._chance
        sender = f"someone{number}@{chance.choice(SPF_DOMAINS)}"
        # The check of header fields weighs these.
        subject = chance.choice(("Hello", "Hello", "Hello", "Hello", "spam low", "spam medium", "spam high"))
        more, body = shape(chance)
        head = (
            f"From: <{sender}>\r\nTo: <user@here.example>\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
            f"Message-ID: <{number}@stranger.example>\r\n"
        ).encode()
        first, rest = f"Subject: {subject} {number}\r\n".encode(), head + more + b"\r\n" + body
        if sender.endswith(f"@{SIGNER}"):
            first = sign(first + rest).removesuffix(first + rest) + first
        return Letter(first, stuffed(rest), digest(rest), sender)

    def errand(self, chance: random.Random) -> Errand:
        letter = chance.choice(self._letters)
        manner = chance.choices(
            ("usual", "pipelined", "tls", "drops in DATA", "nonsense", "http", "early"), (45, 48, 2, 2, 1, 1, 1)
        )[0]
        place = chance.choices((KNOWN, OTHERS, LISTED), (90, 7, 3))[0]
        domain = chance.choices(("here.example", "spool.example", "grey.example", "nowhere.example"), (50, 35, 13, 2))[
            0
        ]
        names = chance.choices(("user", "gone", "later"), (94, 3, 3), k=chance.choice((1, 1, 1, 1, 2, 3)))
        recipients = tuple(dict.fromkeys(f"{name}{chance.randrange(100_000)}@{domain}" for name in names))
        sender = "" if chance.random() < 0.03 else letter.sender
        return Errand(letter, place.format(chance.randrange(1, 127)), sender, recipients, manner)
