"""Calls the scanners that checks use to hear whether they answer, for ``inboundmx check``. Blocks, in threads of its
own; never part of the service. Knows how each is asked who it is; does not have anything scanned.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from inboundmx.app.calling import side_by_side
from inboundmx.checks.clamav import ClamAV
from inboundmx.checks.command import Command, arguments
from inboundmx.model.settings import CheckSettings

SECONDS = 5.0
ANSWER_LIMIT = 500

# By the kind of check: what is asked, and how a proper answer begins.
_QUESTIONS = {
    "clamav": (b"zVERSION\0", b"ClamAV "),
    "rspamd": (b"GET /ping HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
    "spamassassin": (b"PING SPAMC/1.5\r\n\r\n", b"SPAMD/"),
}


@dataclass(frozen=True, slots=True)
class ScannerCall:
    """How a call for the check of that name went; ``detail`` is what was heard, or the trouble."""

    check: str
    server: str
    answered: bool
    detail: str


def call_scanners(checks: Iterable[CheckSettings], seconds: float = SECONDS) -> list[ScannerCall]:
    """Each server of each check called once, side by side, for at most ``seconds``."""
    checks = list(checks)
    asked = [
        (check, server) for check in checks if check.kind in _QUESTIONS for server in check.options.get("servers", ())
    ]
    found = side_by_side([partial(_called, check, server) for check, server in asked], seconds)
    return [_program(check) for check in checks if check.kind == Command.kind] + [
        came or ScannerCall(check.name, server, False, f"no answer within {seconds:g} s")
        for came, (check, server) in zip(found, asked, strict=True)
    ]


def _program(check: CheckSettings) -> ScannerCall:
    """It is not run: what it would do with a message of ours only its operator knows."""
    path = Path(arguments(check.options["command"])[0])
    runs = path.is_file() and os.access(path, os.X_OK)
    trouble = "cannot be run" if path.exists() else "is not there"
    return ScannerCall(check.name, str(path), runs, "can be run" if runs else trouble)


def _called(check: CheckSettings, server: str, deadline: float) -> ScannerCall:
    call = _asked(check, server, deadline, *_QUESTIONS[check.kind])
    if call.answered or check.kind != ClamAV.kind:
        return call
    # It may keep its version to itself.
    ping = _asked(check, server, deadline, b"zPING\0", b"PONG\0")
    if not ping.answered:
        return call
    return replace(ping, detail=f"{ping.detail}; definitions unknown: {call.detail} to VERSION")


def _asked(check: CheckSettings, server: str, deadline: float, question: bytes, proper: bytes) -> ScannerCall:
    heard = b""
    try:
        with _connected(server, deadline) as line:
            line.sendall(question)
            while len(heard) < ANSWER_LIMIT and not heard.endswith((b"\0", b"\n")):
                line.settimeout(max(0.01, deadline - time.monotonic()))
                more = line.recv(ANSWER_LIMIT)
                if not more:
                    break
                heard += more
    except TimeoutError:
        return ScannerCall(check.name, server, False, "no answer in time")
    except (OSError, UnicodeError) as error:
        return ScannerCall(check.name, server, False, f"cannot connect: {getattr(error, 'strerror', None) or error}")
    first = heard.partition(b"\r\n")[0].rstrip(b"\0\n").decode("latin-1")
    said = "".join(sign if " " <= sign <= "~" else "?" for sign in first)
    if not heard.startswith(proper):
        return ScannerCall(check.name, server, False, f"answers {said!r}" if said else "closes without an answer")
    return ScannerCall(check.name, server, True, said)


def _connected(server: str, deadline: float) -> socket.socket:
    """``server`` is one of Twisted's client strings, ``unix:PATH`` or ``tcp:HOST:PORT``, options after it."""
    kind, *parts = (part.replace("\\:", ":") for part in re.split(r"(?<!\\):", server))
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    plain = [part for part in parts if "=" not in part]
    left = max(0.01, deadline - time.monotonic())
    if kind == "tcp":
        values = {**dict(zip(("host", "port"), plain, strict=False)), **named}
        return socket.create_connection((values["host"], int(values["port"])), left)
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(left)
    try:
        line.connect(plain[0] if plain else named["path"])
    except OSError:
        line.close()
        raise
    return line
