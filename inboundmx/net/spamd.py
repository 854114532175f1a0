"""SpamAssassin's daemon, spoken to in its own words: SYMBOLS, a message, a score and the rules that hit in answer.

Knows what an answer must look like, and that a score is a finite number. Does not know what a score is worth, nor which
server is asked first.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from inboundmx.model.message import Body
from inboundmx.net.scoring import RULES_LIMIT, Opinion, Scoring
from inboundmx.net.servers import Fault, Server
from inboundmx.ports import SPAM_SCORE_LIMIT

ANSWER_LIMIT = 64 * 1024

_STATUS = re.compile(rb"SPAMD/[0-9]{1,2}\.[0-9]{1,2} ([0-9]{1,3}) ([ -~]*)")
_NUMBER = rb"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_SPAM = re.compile(rb"(?:True|False|Yes|No) ; (" + _NUMBER + rb") / " + _NUMBER)
_RULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class SpamdScorer:
    """``ports.SpamScorer``."""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    async def score(self, body: Body, prefix: bytes) -> Opinion:
        return await self._scoring.ask(body, partial(_ask, prefix))


async def _ask(prefix: bytes, server: Server, whole: bytes) -> Opinion:
    symbols = Symbols(server.name, prefix, whole)
    await server.connect(symbols)
    return await symbols.answer


class _Head(NamedTuple):
    """Of an answer: where what follows its header begins, where it must end, and the score."""

    begin: int
    end: int
    score: float


class Wrong(Exception):
    """What is wrong with an answer, in words that follow the name of a server."""


class Symbols(Protocol):
    """One message to one server. ``answer`` fires with the score and the rules, or fails with Fault."""

    transport: Any

    def __init__(self, name: str, prefix: bytes, whole: bytes) -> None:
        self.answer: Deferred[Opinion] = Deferred(self._cancelled)
        self._name = name
        self._message = (prefix, whole)
        self._heard = b""
        self._head: _Head | None = None

    def connectionMade(self) -> None:
        length = sum(map(len, self._message))
        self.transport.writeSequence((b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % length, *self._message))
        self._message = (b"", b"")
        # It reads lines: one that has no end is waited for until there can be no more.
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self._heard += data[: ANSWER_LIMIT + 1]
        try:
            if self._head is None:
                self._head = head_of(self._heard)
            if self._head is not None and len(self._heard) >= self._head.end:
                if len(self._heard) > self._head.end:
                    raise Wrong("says more than it announced")
                self._finish((self._head.score, rules_of(self._heard[self._head.begin :])))
            elif len(self._heard) > ANSWER_LIMIT:
                raise Wrong("gives an answer without an end")
        except Wrong as wrong:
            self._fail(str(wrong))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail("closes in the middle of its answer" if self._heard else "closes without an answer")

    def _fail(self, what: str) -> None:
        self._finish(Failure(Fault(f"{self._name} {what}")))  # type: ignore[no-untyped-call]

    def _finish(self, result: Opinion | Failure) -> None:
        if not self.answer.called:
            self.transport.abortConnection()
            self.answer.callback(result)

    def _cancelled(self, _: Deferred[Opinion]) -> None:
        self.transport.abortConnection()


def head_of(heard: bytes) -> _Head | None:
    """The head of an answer, None while it is not all there. Raises Wrong, also for an error, which is one line."""
    line, end, _ = heard.partition(b"\r\n")
    if not end:
        return None
    status = _STATUS.fullmatch(line)
    if status is None:
        raise Wrong(f"answers {_printable(line)!r}")
    if status[1] != b"0":
        raise Wrong(f"answers {status[1].decode()} {_printable(status[2])}".rstrip())
    begin = heard.find(b"\r\n\r\n") + 4
    if begin < 4:
        return None
    fields: dict[bytes, bytes] = {}
    for field in heard[len(line) + 2 : begin - 4].split(b"\r\n"):
        name, colon, value = field.partition(b":")
        name = name.strip().lower()
        if not colon or name in fields:
            raise Wrong(f"answers with the header {_printable(field)!r}")
        fields[name] = value.strip()
    length = fields.get(b"content-length", b"")
    if not re.fullmatch(rb"[0-9]{1,9}", length) or begin + int(length) > ANSWER_LIMIT:
        raise Wrong(f"announces {_printable(length) or 'no length'}")
    spam = _SPAM.fullmatch(fields.get(b"spam", b""))
    if spam is None or abs(float(spam[1])) > SPAM_SCORE_LIMIT:
        raise Wrong(f"gives no score but {_printable(fields.get(b'spam', b''))!r}")
    return _Head(begin, begin + int(length), float(spam[1]))


def rules_of(text: bytes) -> tuple[str, ...]:
    """The names of rules in a list with commas between; what is no name is left out."""
    names = (name.strip() for name in text.decode("latin-1").split(","))
    return tuple(name for name in names if _RULE.fullmatch(name))[:RULES_LIMIT]


def _printable(octets: bytes) -> str:
    return "".join(sign if " " <= sign <= "~" else "?" for sign in octets[:100].decode("latin-1"))
