"""What a client said over one connection and what it heard, read a second time and as plainly as can be.

Shares nothing with the product: lines end in CRLF, each command has one reply, content ends in CRLF.CRLF and has one
reply (LMTP: one for each recipient that was accepted).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_REPLY = re.compile(rb"[2-5][0-9]{2}(?:[ -].*)?", re.DOTALL)


@dataclass
class Sent:
    """One transaction as the server saw it: ``recipients`` that it accepted, the content with its dots undone, and the
    codes of its answers to the final dot, of which ``early`` says whether one came before the dot was written."""

    recipients: list[bytes] = field(default_factory=list)
    refused: int = 0
    content: bytes = b""
    whole: bool = False
    answers: list[int] = field(default_factory=list)
    early: bool = False


def codes(heard: list[tuple[bytes, int]]) -> list[tuple[int, int]]:
    """Of pieces and how much had been written when each came: the whole replies' codes, each with that of its last
    piece. Ends where something is no reply."""
    whole = b"".join(piece for piece, _ in heard)
    found: list[tuple[int, int]] = []
    at, begun, lines = 0, b"", 0
    while (end := whole.find(b"\r\n", at)) >= 0:
        line, at = whole[at:end], end + 2
        if not _REPLY.fullmatch(line) or (begun and line[:3] != begun) or len(line) > 4096 or lines >= 99:
            break
        begun, lines = line[:3], lines + 1
        if line[3:4] != b"-":
            passed = 0
            for piece, written in heard:
                passed += len(piece)
                if passed >= at:
                    found.append((int(begun), written))
                    break
            begun, lines = b"", 0
    return found


def transactions(said: bytes, heard: list[tuple[bytes, int]], lmtp: bool) -> list[Sent]:
    """All that were begun with MAIL and accepted."""
    answers = codes(heard)
    at, number = 0, 1
    found: list[Sent] = []
    current: Sent | None = None
    while (end := said.find(b"\r\n", at)) >= 0 and number < len(answers):
        line, at = said[at:end], end + 2
        code = answers[number][0]
        number += 1
        if line.startswith(b"MAIL "):
            current = None
            if 200 <= code < 300:
                current = Sent()
                found.append(current)
        elif line == b"RSET":
            current = None
        elif line.startswith(b"RCPT ") and current is not None:
            if 200 <= code < 300:
                current.recipients.append(line)
            else:
                current.refused += 1
        elif line == b"DATA" and code == 354:
            rest = b"\r\n" + said[at:]
            stop = rest.find(b"\r\n.\r\n")
            if stop < 0:
                break
            at += stop + 3
            sent = current or Sent()
            current = None
            lines = rest[2 : stop + 2].split(b"\r\n")
            sent.content = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
            sent.whole = True
            for _ in range(max(1, len(sent.recipients)) if lmtp else 1):
                if number < len(answers):
                    code, written = answers[number]
                    sent.answers.append(code)
                    sent.early = sent.early or written < at
                    number += 1
    return found
