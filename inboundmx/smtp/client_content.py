"""Mail data on its way out: dot-stuffing (RFC 5321 4.5.2) and the final dot.

Knows line starts across the seams of any pieces. Does not know replies, nor what a message is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from inboundmx.model.custody import Content

READ_SIZE = 64 * 1024


class DotStuffer:
    """Doubles every dot at the start of a line, a piece at a time; pieces may end anywhere. Content that is free of
    lone CR and LF comes out so, and then only ``end`` holds CRLF.CRLF."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        # The last two octets sent; DATA's own CRLF comes before the first line.
        self._tail = b"\r\n"

    def stuffed(self, piece: bytes) -> Iterable[bytes]:
        """What to write for ``piece``. Without a dot at a line start, it is ``piece`` itself, not copied."""
        tail = self._tail
        self._tail = piece[-2:] if len(piece) > 1 else (tail + piece)[-2:]
        sent = piece.replace(b"\r\n.", b"\r\n..")
        if tail == b"\r\n" and piece.startswith(b"."):
            return (b".", sent)
        if tail.endswith(b"\r") and piece.startswith(b"\n."):
            return (b"\n.", sent[1:])
        return (sent,)

    def end(self) -> bytes:
        """The final dot; a CRLF before it only when the content did not end with one."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


def small_content(content: Content) -> list[bytes]:
    """Everything from the first octet to the final dot, of content whose body is in memory."""
    stuffer = DotStuffer()
    head = content.body.head
    pieces = [*stuffer.stuffed(content.prefix), *stuffer.stuffed(head[content.skip :] if content.skip else head)]
    pieces.append(stuffer.end())
    return pieces


@implementer(IPushProducer)
class LargeContent:
    """Content whose body is a file, written as fast as the transport takes it and never more than about one read ahead.

    ``progress`` is called after each read, ``finished`` with the final dot's octets once all of it was written, and
    ``damaged`` when the file is not as long as it should be or cannot be read; then no final dot may follow.
    """

    def __init__(
        self,
        content: Content,
        path: str,
        transport: Any,
        progress: Callable[[], object],
        finished: Callable[[bytes], object],
        damaged: Callable[[], object],
    ) -> None:
        self._content = content
        self._path = path
        self._transport = transport
        self._progress = progress
        self._finished = finished
        self._damaged = damaged
        self._stuffer = DotStuffer()
        self._file: BinaryIO | None = None
        self._left = content.body.size - content.skip
        self._paused = False
        self._writing = False

    def start(self) -> None:
        try:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 - open for as long as the transport reads
            self._file.seek(self._content.skip)
        except OSError:
            self.stopProducing()
            self._damaged()
            return
        self._transport.registerProducer(self, True)
        for piece in self._stuffer.stuffed(self._content.prefix):
            self._transport.write(piece)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        # A transport may call back from within write: one loop is enough.
        if self._writing:
            return
        self._writing = True
        try:
            while self._file is not None and not self._paused:
                self._write_some(self._file)
        finally:
            self._writing = False

    def stopProducing(self) -> None:
        """The connection is gone, or the content is not wanted any more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_some(self, file: BinaryIO) -> None:
        try:
            # One octet more than should be there shows a file that grew.
            piece = file.read(min(READ_SIZE, self._left + 1))
        except OSError:
            piece = b""
        if len(piece) > self._left or (not piece and self._left):
            self._leave()
            self._damaged()
        elif piece:
            self._left -= len(piece)
            for part in self._stuffer.stuffed(piece):
                self._transport.write(part)
            self._progress()
        else:
            self._leave()
            self._finished(self._stuffer.end())

    def _leave(self) -> None:
        self.stopProducing()
        self._transport.unregisterProducer()
