"""One question over HTTP/1.0 (RFC 1945), so that nothing comes in chunks and the connection ends with the answer.

Knows a status line, Content-Length, and that little is read. Does not know what was asked for, nor follows anything.
"""

from __future__ import annotations

import re
from base64 import b64encode
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

_FIRST_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: .*)?")
_NUMBER = re.compile(rb"[0-9]{1,9}")
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


class Get(Protocol):
    """``answer`` fires with the content, or fails with Fault; then, and when it is cancelled, the connection ends.
    ``host`` is the Host field; without a ``username`` and ``password`` none are sent."""

    transport: Any

    def __init__(self, host: str, path: str, username: str, password: str, limit: int = LIMIT) -> None:
        self.answer: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())
        fields = [f"GET {path} HTTP/1.0", f"Host: {host}", "Accept: application/json"]
        if username or password:
            fields.append("Authorization: Basic " + b64encode(f"{username}:{password}".encode()).decode())
        self._question = ("\r\n".join(fields) + "\r\n\r\n").encode("ascii")
        self._heard: list[bytes] = []
        self._size = 0
        self._limit = limit
        # There is nothing to be understood before so much was heard.
        self._enough = 0

    def connectionMade(self) -> None:
        self.transport.write(self._question)

    def dataReceived(self, data: bytes) -> None:
        self._heard.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._finish(_fault("says more than anybody should"))
        elif self._size >= self._enough:
            self._finish(self._understood(ended=False))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if isinstance(reason.value, ConnectionDone):
            self._finish(self._understood(ended=True))
        elif isinstance(reason.value, ConnectionLost):
            self._finish(_fault("breaks the connection"))
        else:
            # What TLS has to say of it.
            self._finish(_fault(f"cannot be trusted: {reason.getErrorMessage()}"))

    def _understood(self, ended: bool) -> bytes | Failure | None:
        """The content once it is whole, None while it is not."""
        heard = b"".join(self._heard)
        self._heard = [heard]
        head, blank, content = heard.partition(b"\r\n\r\n")
        if not blank:
            return _fault("ends in the middle of its answer" if head else "closes without an answer") if ended else None
        first, *fields = head.split(b"\r\n")
        match = _FIRST_LINE.fullmatch(first)
        if match is None:
            return _fault("does not speak HTTP")
        if (code := int(match[1])) != 200:
            return _fault(_WHY.get(code, f"answers {code}"), NotThere if code in _NOT_THERE else Fault)
        said = [(name.lower(), value.strip()) for name, _, value in (field.partition(b":") for field in fields)]
        lengths = {value for name, value in said if name == b"content-length"}
        if len(lengths) > 1 or not all(map(_NUMBER.fullmatch, lengths)) or b"transfer-encoding" in dict(said):
            return _fault("gives an answer without a length")
        if not lengths:
            self._enough = self._limit
            return content if ended else None
        length = int(lengths.pop())
        self._enough = len(head) + len(blank) + length
        if len(content) >= length:
            return content[:length]
        return _fault("ends in the middle of its answer") if ended else None

    def _finish(self, result: bytes | Failure | None) -> None:
        if result is not None and not self.answer.called:
            self.transport.abortConnection()
            self.answer.callback(result)


def _fault(what: str, kind: type[Fault] = Fault) -> Failure:
    return Failure(kind(what))  # type: ignore[no-untyped-call]
