"""How long others wait while a nasty message comes: a NOOP every 5 ms beside each kind, all checks but scanners on.

Knows what is nasty to a parser, to DKIM and to patterns. The figure is the longest that a NOOP waited; the least of the
longest, of several repeats, is what the message itself does, for what else a machine does comes and goes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, percentiles
from benchmarks.load import content, stuffed
from benchmarks.own_network import in_own_network
from benchmarks.peers import Ours, wait_for_banner
from benchmarks.scenarios import Effort, Probe, forward
from benchmarks.services import (
    BLOCK,
    CLIENT,
    NAME_CHECKS,
    STRANGER,
    Signer,
    authority,
    first_opinions,
)

KB, MB = 2**10, 2**20
LIMIT_MS = 100.0
SELECTORS = [f"s{number}" for number in range(10)]
HEADER = (
    b"From: Load <load@stranger.example>\r\nTo: <user@here.example>\r\nSubject: nasty\r\n"
    b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
)
HEADERS_CHECK = """
[check offers]
use = headers
header = Subject
pattern = (?i)limited\\s+.*offer
weight.match = 1
"""


def signature(number: int, names: str = "from:to:subject:date", more: str = "", body: bytes = b"") -> bytes:
    """A field that is read, looked up and worked through as if it were right; only its last step fails. ``body``: what
    is signed of it, in its relaxed form; of another one the hash alone is wrong."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    junk = base64.b64encode(bytes(range(256))).decode()
    return (
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={STRANGER}; s={SELECTORS[number % 10]};{more}\r\n"
        f"\th={names};\r\n\tbh={digest}; b={junk}\r\n"
    ).encode()


def with_body(body: bytes, signatures: Iterable[bytes] = (signature(0),)) -> bytes:
    return b"".join(signatures) + HEADER + b"\r\n" + body + b"\r\n"


def with_header(fields: bytes, names: str = "from:subject:x") -> bytes:
    """Ten signatures over it, and a body of which they tell the truth."""
    signed = b"".join(signature(number, names, body=b"short\r\n") for number in range(10))
    return signed + HEADER + fields + b"\r\nshort\r\n"


def addresses(count: int) -> bytes:
    """In lines of 50."""
    return b"Cc: " + b"\r\n ".join(b"u@h%d.test," % at * 50 for at in range(0, count, 50))


LINE = b"The quick brown fox jumps over the lazy dog, and then once more for good.\r\n"
KINDS: dict[str, Callable[[], bytes]] = {
    "4 KB": lambda: with_body(LINE * 50),
    "1 MB of spaces": lambda: with_body(b" " * MB),
    "200 KB of spaces": lambda: with_body(b" " * (200 * KB)),
    "1 MB of blanks, 10 signatures": lambda: with_body(
        b" \tx" + b" \t" * (MB // 2) + b"x" * 200, [signature(n, more=f" l={90 + n};") for n in range(10)]
    ),
    "200 KB of blank lines, 10 l=": lambda: with_body(
        b" \t \r\n" * (40 * KB) + b"x", [signature(n, more=f" l={20000 - n};") for n in range(10)]
    ),
    "1 MB of empty lines": lambda: with_body(b"\r\n" * (MB // 2)),
    "1 MB of dots": lambda: with_body(b".\r\n" * (MB // 3)),
    "100 signatures": lambda: with_body(b"x  y\r\n" * (20 * KB), map(signature, range(100))),
    "100 signatures, 1 MB": lambda: with_body(LINE * (MB // len(LINE)), map(signature, range(100))),
    "9,900 fields, 10 signatures": lambda: with_header(b"X: y\r\n" * 9900),
    "9,900 fields, 190 signed": lambda: with_header(b"X: y\r\n" * 9900, "from:subject" + ":x" * 190),
    "190 KB in 190 fields, signed": lambda: with_header(
        (b"X: y" + b" \ty" * 330 + b"\r\n") * 190, "from:subject" + ":x" * 190
    ),
    "100,000 fields": lambda: with_header(b"X: y\r\n" * 100_000),
    "9,900 folds, signed": lambda: with_header(b"X: a" + b"\r\n \tb" * 9900 + b"\r\n"),
    "230 KB field, signed": lambda: with_header(b"X: " + b" \t" * (115 * KB) + b"\r\n"),
    "230 KB Subject": lambda: with_header(b"Subject: " + b"limited " * (29 * KB) + b"\r\n"),
    "50 Subjects of spaces": lambda: with_header((b"Subject: limited" + b" " * 4000 + b"\r\n") * 55),
    "230 KB of encoded words": lambda: with_header(b"Subject: " + b"=?utf-8?B?bGltaXRlZA==?= " * 9000 + b"\r\n"),
    "1 MB header line": lambda: with_header(b"X: " + b"y" * MB + b"\r\n"),
    "16,000 recipients in Cc": lambda: with_header(addresses(16_000) + b"\r\n", "from:cc"),
    "50,000 recipients in Cc": lambda: with_header(addresses(50_000) + b"\r\n", "from:cc"),
    "30 MB": lambda: with_body(LINE * (30 * MB // len(LINE))),
    "30 MB of spaces": lambda: with_body(b" " * (30 * MB)),
    "30 MB of blanks": lambda: with_body(b" \t" * (15 * MB), map(signature, range(10))),
    "30 MB of empty lines": lambda: with_body(b"\r\n" * (15 * MB)),
}

SENDER = """
import json, sys
from benchmarks.sender import Sender
port, source, path = json.loads(sys.argv[1])
octets = open(path, "rb").read()
print("ready", flush=True)
sys.stdin.readline()
sender = Sender(port, source)
sender.begin()
try:
    sender.wire.sendall(octets)
    print(sender.answer()[:3], flush=True)
except OSError:
    print("0", flush=True)
"""


def beside(gateway: Ours, message: Path | None, source: str) -> tuple[list[float], float]:
    """How long each NOOP waited from before a message comes until it is at the sink, and the code of its answer."""
    if message is None:
        probe = Probe(gateway.port)
        probe.start()
        time.sleep(0.5)
        return probe.finish(), 0.0
    before = gateway.sink.count()
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER, json.dumps([gateway.port, source, str(message)])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sender.stdout is not None
    sender.stdout.readline()
    probe = Probe(gateway.port)
    probe.start()
    time.sleep(0.05)
    code = sender.communicate("\n")[0].strip()
    if code == "250":
        gateway.sink.wait_for(before + 1, 10.0)
    time.sleep(0.05)
    return probe.finish(), float(code or 0)


def beside_all(effort: Effort, folder: Path) -> dict[str, Any]:
    signer = Signer(STRANGER)
    nsd = authority(folder / "nsd", signer, SELECTORS)
    figures: dict[str, Figures] = {}
    every: dict[str, list[Figures]] = {}
    gateway = None
    try:
        gateway = Ours(folder / "gateway", "cut-through", first_opinions(nsd.port) + NAME_CHECKS + HEADERS_CHECK)
        letter = folder / "letter"
        letter.write_bytes(signer.signed(content(4096)[:-3]))
        forward(gateway, 1, 1, message=str(letter), source=CLIENT)
        time.sleep(BLOCK)
        forward(gateway, 1, 5, message=str(letter), source=CLIENT)
        repeats = 2 if effort.scale < 1 else effort.repeats
        for name, make in {"nothing": None, **KINDS}.items():
            path = folder / "message" if make else None
            if path and make:
                path.write_bytes(stuffed(make()))
            seconds: list[float] = []
            for _ in range(repeats):
                found, code = beside(gateway, path, CLIENT)
                seconds += found
                spread = percentiles(found)
                every.setdefault(name, []).append(
                    {"answer": code, "noops": len(found), "p99_ms": spread["p99"], "max_ms": spread["max"]}
                )
            longest = [each["max_ms"] for each in every[name]]
            figures[name] = {
                "answer": every[name][-1]["answer"],
                "noops": len(seconds),
                "p99_ms": percentiles(seconds)["p99"],
                "max_ms": max(longest),
                "median_max_ms": statistics.median(longest),
                "least_max_ms": min(longest),
            }
        wait_for_banner(gateway.port, "inboundmx", folder / "gateway" / "output")
    finally:
        if gateway is not None:
            gateway.stop()
        nsd.stop()
    above = [name for name, values in figures.items() if values["least_max_ms"] > LIMIT_MS]
    log = (folder / "gateway" / "gateway.log").read_text(encoding="utf-8").splitlines()
    said: dict[str, int] = {}
    for line in log:
        for check, outcome, *_ in json.loads(line).get("checks", ()):
            said[f"{check} {outcome}"] = said.get(f"{check} {outcome}", 0) + 1
    notes = [
        f"above {LIMIT_MS:g} ms every time: {', '.join(above) or 'none'}",
        "outcomes: " + ", ".join(f"{what} {times}" for what, times in sorted(said.items())),
    ]
    notes += [f"the gateway's log says: {line[:300]}" for line in log if '"check_failed"' in line or '"fault"' in line]
    return {
        "scenario": "lag",
        "what": "how long a NOOP waits beside a message of each kind; least_max_ms: the longest, at the best repeat",
        "figures": figures,
        "every": every,
        "notes": notes,
    }


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    return [in_own_network(beside_all, effort, folder)]
