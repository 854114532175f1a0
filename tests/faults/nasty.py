"""Messages made to hurt whoever reads them: others are served meanwhile, and the answer is a decision.

Knows what is nasty to a parser of header fields, of addresses, of MIME, of HTML and of archives. The same beside DKIM
and patterns, in a network where nothing else stirs, is in ``benchmarks/lag.py``.
"""

from __future__ import annotations

import base64
import lzma
from collections import Counter
from collections.abc import Callable

from fakes.archive_samples import without_end, zips_in_zips
from figures import Figure, exactly
from lab import (
    DOMAIN,
    UNHURRIED,
    Lab,
    domain,
    forget_peak,
    letter,
    noops,
    peak_mib,
    resident_mib,
    sent,
    until,
)

MB = 2**20
CHECKS = (
    "[check subject]\nuse = headers\nheader = Subject\npattern = (?i)limited\\s+.*offer\n"
    "[check from]\nuse = headers\nheader = From\npattern = (?i)[a-z]+@.*bad\n"
    "[check spf]\nuse = spf\n[check dkim]\nuse = dkim\n[check arc]\nuse = arc\n[check dmarc]\nuse = dmarc\n"
    "[check files]\nuse = attachments\n[check links]\nuse = uribl\nzone = links.test\n"
)


def nested(depth: int) -> bytes:
    parts = b"".join(
        b'--b%d\r\nContent-Type: multipart/mixed; boundary="b%d"\r\n\r\n' % (n, n + 1) for n in range(depth)
    )
    return letter("nested", parts, b'Content-Type: multipart/mixed; boundary="b0"\r\n')


def messages_in_messages(depth: int) -> bytes:
    return letter(
        "inside", b"Content-Type: message/rfc822\r\n\r\n" * depth + b"\r\n", b"Content-Type: message/rfc822\r\n"
    )


def boundary_games() -> bytes:
    return in_parts(b"".join(b"--%b\r\n\r\n" % (b"a" * (n % 70 + 1)) for n in range(20_000)), b"a")


def html(text: bytes) -> bytes:
    return letter("in HTML", text + b"\r\n", b"Content-Type: text/html\r\n")


def packed(archive: bytes) -> bytes:
    head = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
    return letter("packed", base64.encodebytes(archive).replace(b"\n", b"\r\n"), head)


def headed(fields: bytes) -> bytes:
    return letter("headed", headers=fields)


def in_parts(body: bytes, boundary: bytes = b"b") -> bytes:
    return letter("in parts", body, b'Content-Type: multipart/mixed; boundary="%b"\r\n' % boundary)


KINDS: dict[str, Callable[[], bytes]] = {
    "100,000 header fields": lambda: headed(b"X: y\r\n" * 100_000),
    "9,900 header fields": lambda: headed(b"X: y\r\n" * 9900),
    "a header line of 1 MB": lambda: headed(b"X: " + b"y" * MB + b"\r\n"),
    "a folded field of 1 MB": lambda: headed(b"X: y" + b"\r\n y" * (MB // 4) + b"\r\n"),
    "50,000 recipients in To": lambda: headed(b"To: a@h.test" + b",\r\n user@host.test" * 50_000 + b"\r\n"),
    "10,000 Received": lambda: headed(b"Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n" * 10_000),
    "100 KB of ( in From": lambda: headed(b"From: " + b"(" * 100_000 + b"\r\n"),
    "100 KB of < in From": lambda: headed(b"From: " + b"<" * 100_000 + b"\r\n"),
    "230 KB of encoded words": lambda: headed(b"Subject: " + b"=?utf-8?B?bGltaXRlZA==?= " * 9000 + b"\r\n"),
    "230 KB for a pattern": lambda: headed(b"Subject: " + b"limited " * (29 * 1024) + b"\r\n"),
    "MIME 10,000 deep": lambda: nested(10_000),
    "1,000,000 MIME parts": lambda: in_parts(b"--b\r\n\r\n" * 1_000_000),
    "message/rfc822 1,000 deep": lambda: messages_in_messages(1000),
    "boundaries that begin each other": boundary_games,
    "1 MB of < in HTML": lambda: html(b"<" * MB),
    "20,000 links in HTML": lambda: html(b'<a href="http://a.b.test/">c</a>' * 20_000),
    "zips in zips": lambda: packed(zips_in_zips()),
    "10 GB of xz": lambda: packed(without_end(lzma.compress(bytes(16 * MB)), 10 * 2**30, 16 * MB)),
}
LIMIT_MS = 250.0


def bombs(lab: Lab) -> list[Figure]:
    primary = lab.counting()
    gateway = lab.gateway(
        "[dns]\nservers = 127.0.0.1:9\n"
        + domain(primary.port, tls="none")
        + CHECKS
        + UNHURRIED
        + "max_hop_count = 50\n"
    )
    sent(gateway.port, letter("warm", b"y" * MB + b"\r\n"), [f"user@{DOMAIN}"])
    codes: Counter[int] = Counter()
    longest: dict[str, float] = {}
    dearest: dict[str, float] = {}
    grown = 0.0
    for name, make in KINDS.items():
        octets = make()
        waits, work = [], []
        # What else a machine does comes and goes; what the message does is there every time.
        while len(work) < (3 if lab.full else 1) or (len(work) < 3 and min(work) * 1000 > LIMIT_MS):
            until("rest", lambda: sent(gateway.port, letter("between"), [f"user@{DOMAIN}"]) == 250)
            forget_peak(gateway.pid)
            before = resident_mib(gateway.pid)
            with noops(gateway.port, gateway.pid) as asking:
                codes[sent(gateway.port, octets, [f"user@{DOMAIN}"])] += 1
            waits.append(asking.longest)
            work.append(asking.worked)
            grown = max(grown, peak_mib(gateway.pid) - before)
        longest[name], dearest[name] = min(waits), min(work)
    slowest, dear = (max(each, key=each.__getitem__) for each in (longest, dearest))
    for_ever = sum(times for code, times in codes.items() if code not in (250, 552, 554, 550, 500))
    return [
        exactly(f"of {len(longest)} kinds of bomb, answers that are neither 250 nor a refusal for good", for_ever, 0),
        Figure(
            f"longest that another client waited beside one (worst: {slowest})",
            longest[slowest] * 1000,
            "ms",
            most=LIMIT_MS,
            timed=True,
        ),
        Figure(f"most processor time in such a wait (worst: {dear})", dearest[dear] * 1000, "ms", most=LIMIT_MS),
        Figure("most memory that one took", grown, "MiB", most=100),
    ]
