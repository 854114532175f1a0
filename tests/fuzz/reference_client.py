"""What one SMTP connection must have looked like, told from the octets of both sides alone.

A second, deliberately simple reading of RFC 5321 that shares nothing with the product: lines end in CRLF, content ends
in CRLF.CRLF, each complete line and each content has one reply, in order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LINE = re.compile(rb"[2-5][0-9]{2}[ -][ -~]*")
_ENHANCED = re.compile(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3} ")
# What is answered without an enhanced code: the greeting, EHLO and HELO, DATA.
_BARE = frozenset({b"220", b"250", b"354"})
# No line without its end is read for longer.
ENDLESS = 64 * 1024
# What begins so is another protocol: it is refused before any line has ended.
FOREIGN = (b"\x16\x03", b"SSH-", b"\x03\0", b"\x04\x01", b"\x05")


@dataclass
class Letter:
    """One message as the client sent it: the lines of the envelope that were accepted, and the content between 354 and
    CRLF.CRLF, dots undone; ``whole`` when its end was said; ``reply`` to it, if any."""

    sender: bytes
    recipients: list[bytes]
    content: bytes = b""
    whole: bool = False
    reply: bytes | None = None

    @property
    def fit(self) -> bool:
        bare = self.content.replace(b"\r\n", b"")
        return not any(sign in bare for sign in (b"\r", b"\n", b"\0"))


@dataclass
class Reading:
    """``asked``: the questions that may have been put to the inside, in this order, some left out. ``unanswered``: how
    many complete lines and contents had no reply."""

    letters: list[Letter] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    unanswered: int = 0


def replies(said: bytes) -> list[bytes]:
    """Each with all its lines. Raises AssertionError where one is not well-formed."""
    assert said.endswith(b"\r\n") or not said, f"half a line: {said[-80:]!r}"
    found: list[bytes] = []
    lines: list[bytes] = []
    for line in said.split(b"\r\n")[:-1]:
        assert _LINE.fullmatch(line), f"no reply line: {line!r}"
        assert len(line) <= 510, f"a long line: {line!r}"
        assert not lines or lines[0][:3] == line[:3], f"codes differ: {lines!r} {line!r}"
        lines.append(line)
        if line[3:4] == b" ":
            for each in lines:
                enhanced = _ENHANCED.match(each, 4)
                assert (enhanced is not None and enhanced[1] == each[:1]) or each[:3] in _BARE, f"bare: {each!r}"
            found.append(b"\r\n".join(lines))
            lines = []
    assert not lines, f"an unfinished reply: {lines!r}"
    return found


def _verb(line: bytes) -> bytes:
    return line.partition(b" ")[0].upper()


QUESTIONS = {b"EHLO": "hello", b"HELO": "hello", b"MAIL": "mail", b"RCPT": "recipient", b"DATA": "data"}
# A command not named here is never accepted.
ACCEPTED = {
    b"EHLO": b"250", b"HELO": b"250", b"MAIL": b"250", b"RCPT": b"250", b"DATA": b"354", b"RSET": b"250",
    b"NOOP": b"250", b"VRFY": b"252", b"HELP": b"214", b"QUIT": b"221", b"STARTTLS": b"220",
}  # fmt: skip


class _Client:
    def __init__(self, said: list[bytes], closed: bool) -> None:
        self.replies = said
        self.closed = closed
        self.at = 0
        self.greeted = self.secured = self.doubtful = False
        self.letter: Letter | None = None
        self.reading = Reading()

    def next(self) -> bytes | None:
        if self.at == len(self.replies):
            return None
        self.at += 1
        return self.replies[self.at - 1]

    def segment(self, octets: bytes) -> bool:
        """Reads what was said up to the next STARTTLS; whether that was accepted."""
        at = 0
        if not self.secured and octets.startswith(FOREIGN):
            reply = self.next()
            assert reply is None or reply[:3] in (b"554", b"421"), f"{octets!r} was answered {reply!r}"
            assert reply is None or self.closed
            return False
        while (end := octets.find(b"\r\n", at)) >= 0:
            line, at = octets[at:end], end + 2
            verb = _verb(line)
            if verb in QUESTIONS:
                self.reading.asked.append(QUESTIONS[verb])
            reply = self.next()
            if reply is None:
                self.reading.unanswered = 1
                return False
            self.answered(verb, line, reply)
            if reply[:3] == b"354":
                at = self.content(octets, at)
            elif verb == b"STARTTLS" and reply[:1] == b"2":
                self.greeted, self.secured, self.letter = False, True, None
                return True
        # An endless line is cut before its end.
        if len(octets) - at > ENDLESS and self.at < len(self.replies):
            assert self.replies[self.at][:4] in (b"500 ", b"421 "), self.replies[self.at :]
            self.at += 1
        return False

    def answered(self, verb: bytes, line: bytes, reply: bytes) -> None:
        hello = verb in (b"EHLO", b"HELO")
        if reply[:1] in b"45":
            # One that is refused for what it says has ended the transaction, one that is no grammar has not.
            self.doubtful = self.doubtful or hello
            return
        assert reply[:3] == ACCEPTED.get(verb), f"{line!r} was answered {reply!r}"
        assert hello or reply[:3] != b"250" or _ENHANCED.match(reply, 4), f"{line!r} was answered {reply!r}"
        if hello:
            self.greeted, self.letter = True, None
        elif verb == b"MAIL":
            assert self.greeted and (self.letter is None or self.doubtful), f"{line!r} out of order: {reply!r}"
            self.letter, self.doubtful = Letter(line, []), False
        elif verb == b"RCPT":
            assert self.letter is not None, f"{line!r} out of order: {reply!r}"
            self.letter.recipients.append(line)
        elif verb == b"DATA":
            assert self.letter is not None and self.letter.recipients, f"{line!r} out of order: {reply!r}"
        elif verb == b"RSET":
            self.letter = None
        elif verb == b"STARTTLS":
            assert not self.secured, "TLS a second time"

    def content(self, octets: bytes, at: int) -> int:
        letter = self.letter
        assert letter is not None
        self.letter = None
        self.reading.letters.append(letter)
        rest = b"\r\n" + octets[at:]
        end = rest.find(b"\r\n.\r\n")
        if end < 0:
            letter.content = rest[2:]
            return len(octets)
        lines = rest[2 : end + 2].split(b"\r\n")
        letter.content = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
        letter.whole = True
        letter.reply = self.next()
        self.reading.asked.append("content")
        if letter.reply is None:
            self.reading.unanswered = 1
        else:
            assert letter.reply[:3] == b"250" or letter.reply[:1] in b"45", f"the dot was answered {letter.reply!r}"
        return at + end + 3


def read(segments: list[bytes], said: bytes, closed: bool) -> Reading:
    """``segments``: what the client said, a new one where TLS began; ``said``: all that the server said; ``closed``:
    the server has ended the connection. Raises AssertionError where that cannot have been so."""
    client = _Client(replies(said), closed)
    greeting = client.next()
    client.reading.asked.append("connected")
    if greeting is None:
        return client.reading
    if greeting[:3] == b"220":
        for octets in segments:
            if not client.segment(octets):
                break
    else:
        assert greeting[:1] in b"45" and closed, f"greeted by {greeting!r}"
    left = client.replies[client.at :]
    # What nobody asked for is a goodbye.
    assert not left or (len(left) == 1 and left[0][:3] == b"421" and closed), f"nobody asked for {left!r}"
    return client.reading
