"""One question over HTTP/1.1 (RFC 9112), and one connection for each.

Knows a status line, where an answer ends, and that little is read. Does not know what was asked for, nor follows
anything.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure

from inboundmx.net.servers import Fault, Once

# Octets of an answer, its head included.
LIMIT = 65536
HEAD_LIMIT = 65536

_FIRST_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: .*)?")
_NUMBER = re.compile(rb"[0-9]{1,9}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Its extensions are ignored.
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?")
_CHUNK_LINE = 1000
_WHY = {
    301: "answers with a redirect (301), which is not followed",
    302: "answers with a redirect (302), which is not followed",
    401: "refuses our name and password (401)",
    403: "has its status closed to everybody (403)",
    429: "heard too many wrong passwords (429)",
}


_NOT_THERE = frozenset({404, 410})


class NotThere(Fault):
    """The server answers that there is nothing by that name."""


async def fetch(
    reactor: Any, url: str, username: str = "", password: str = "", *, seconds: float, limit: int = LIMIT
) -> bytes:
    """What an ``http`` or ``https`` address answers, at most ``limit`` octets with the head. ``seconds`` bound the
    connecting alone. Raises Fault."""
    try:
        split = urlsplit(url)
        path = (split.path or "/") + (f"?{split.query}" if split.query else "")
        get = Get(split.netloc.rpartition("@")[2], path, username, password, limit)
        await _endpoint(reactor, split.scheme, split.hostname or "", split.port, seconds).connect(Once(get))
    except (CancelledError, ConnectingCancelledError) as error:
        raise CancelledError from error
    except Exception as error:
        raise Fault(f"cannot be reached: {error}") from error
    return await get.answer


def _endpoint(reactor: Any, scheme: str, host: str, port: int | None, seconds: float) -> Any:
    secure = scheme == "https"
    where = (reactor, host, port or (443 if secure else 80), seconds)
    endpoint: Any
    try:
        endpoint = (TCP4ClientEndpoint if ip_address(host).version == 4 else TCP6ClientEndpoint)(*where)
    except ValueError:
        endpoint = HostnameEndpoint(*where)
    return wrapClientTLS(optionsForClientTLS(host), endpoint) if secure else endpoint


class Exchange(Protocol):
    """Writes ``question``. ``answer`` fires with the content, or fails with Fault; then, and when it is cancelled, the
    connection ends. ``why``: what codes of trouble mean here."""

    transport: Any

    def __init__(self, question: Sequence[bytes], limit: int = LIMIT, why: Mapping[int, str] = _WHY) -> None:
        self.answer: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())
        self._question = question
        self._why = why
        self._head = b""
        self._size = 0
        self._limit = limit
        self._body: _Measured | Chunks | None = None

    def connectionMade(self) -> None:
        question, self._question = self._question, ()
        self.transport.writeSequence(question)

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            self._finish(_fault("says more than anybody should"))
            return
        try:
            if self._body is None:
                self._head, blank, data = (self._head + data).partition(b"\r\n\r\n")
                if not blank:
                    if len(self._head) > HEAD_LIMIT:
                        raise Fault("says more than anybody should")
                    return
                self._body = _body(self._head, self._why)
            content = self._body.feed(data)
        except Fault as fault:
            self._finish(Failure(fault))  # type: ignore[no-untyped-call]
        else:
            self._finish(content)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if isinstance(reason.value, ConnectionDone):
            self._finish(_fault("ends in the middle of its answer" if self._size else "closes without an answer"))
        elif isinstance(reason.value, ConnectionLost):
            self._finish(_fault("breaks the connection"))
        else:
            # What TLS has to say of it.
            self._finish(_fault(f"cannot be trusted: {reason.getErrorMessage()}"))

    def _finish(self, result: bytes | Failure | None) -> None:
        if result is not None and not self.answer.called:
            self.transport.abortConnection()
            self.answer.callback(result)


class Get(Exchange):
    """``host`` is the Host field; without a ``username`` and ``password`` none are sent."""

    def __init__(self, host: str, path: str, username: str, password: str, limit: int = LIMIT) -> None:
        fields = [("Host", host), ("Accept", "application/json, text/plain")]
        if username or password:
            fields.append(("Authorization", "Basic " + b64encode(f"{username}:{password}".encode()).decode()))
        super().__init__([question("GET", path, fields)], limit)


def question(method: str, path: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """All that stands before the content. ``path`` is ASCII; what is no text in a value becomes ``?``."""
    said = [*fields, ("Connection", "close")]
    lines = (f"{method} {path} HTTP/1.1", *(f"{name}: {_CONTROL.sub('?', value)}" for name, value in said), "", "")
    return "\r\n".join(lines).encode("utf-8", "replace")


def _body(head: bytes, why: Mapping[int, str]) -> _Measured | Chunks:
    """How the content is to be read. Raises Fault when there is none, or nothing tells its end."""
    first, *fields = head.split(b"\r\n")
    match = _FIRST_LINE.fullmatch(first)
    if match is None:
        raise Fault("does not speak HTTP")
    if (code := int(match[1])) != 200:
        raise (NotThere if code in _NOT_THERE else Fault)(why.get(code, f"answers {code}"))
    said = [(name.lower(), value.strip()) for name, _, value in (field.partition(b":") for field in fields)]
    lengths = {value for name, value in said if name == b"content-length"}
    codings = [value.lower() for name, value in said if name == b"transfer-encoding"]
    if codings == [b"chunked"] and not lengths:
        return Chunks()
    # What ends with the connection may have been cut off there, at the end of a line too.
    if codings or len(lengths) != 1 or not all(map(_NUMBER.fullmatch, lengths)):
        raise Fault("gives an answer without a length")
    return _Measured(int(lengths.pop()))


class _Measured:
    """Content of so many octets."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._left = length
        self._heard: list[bytes] = []

    def feed(self, data: bytes) -> bytes | None:
        self._heard.append(data)
        self._left -= len(data)
        return b"".join(self._heard)[: self._length] if self._left <= 0 else None


class Chunks:
    """Content in chunks, each behind its length (RFC 9112 7.1). What follows the last one is ignored."""

    def __init__(self) -> None:
        self._content: list[bytes] = []
        self._rest = b""
        # Of the chunk that is being read, with the end of its line.
        self._left = 0
        self._last = False

    def feed(self, data: bytes) -> bytes | None:
        """The content once it is whole. Raises Fault when these are no chunks."""
        data, at = self._rest + data, 0
        while True:
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                self._content.append(piece)
                self._left -= len(piece)
                at += len(piece)
            if self._left > 2 or len(data) - at < self._left:
                break
            if self._left and data[at : at + 2] != b"\r\n":
                raise Fault("gives an answer in broken chunks")
            at += self._left
            self._left = 0
            end = data.find(b"\r\n", at, at + _CHUNK_LINE)
            if end < 0:
                if len(data) - at >= _CHUNK_LINE:
                    raise Fault("gives an answer in broken chunks")
                break
            line, at = data[at:end], end + 2
            if self._last:
                # Fields, and then an empty line.
                if not line:
                    return b"".join(self._content)
                continue
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise Fault("gives an answer in broken chunks")
            self._left = int(match[1], 16) + 2
            if self._left == 2:
                self._left, self._last = 0, True
        self._rest = data[at:]
        return None


def _fault(what: str) -> Failure:
    return Failure(Fault(what))  # type: ignore[no-untyped-call]
