"""Between the supervisor and a worker: packets of JSON over a socket that both inherit, with descriptors beside them.

Knows packets, and that the other side is gone when the socket ends. Does not know what is said.

Settings and keys go the same way, in memory that has no name (memfd): never in arguments, the environment or a file.
A worker speaks with strangers, so what it says is read as JSON and nothing else; it believes the supervisor.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
from collections.abc import Callable, Sequence
from typing import Any

# Octets and descriptors of one packet.
PACKET_LIMIT = 64 * 1024
DESCRIPTORS = 200

Said = dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    """Packets stay whole, and arrive whole or not at all."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def sealed(value: object) -> int:
    """A descriptor of memory that holds the value, for ``unsealed`` in a process that got it by inheritance."""
    descriptor = os.memfd_create("inboundmx", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(value, file)
    return descriptor


def unsealed(descriptor: int) -> Any:
    """The value; the descriptor is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return pickle.load(file)


def send(end: socket.socket, said: Said, descriptors: Sequence[int] = ()) -> None:
    """Raises OSError when the other side is gone or does not listen."""
    socket.send_fds(end, [json.dumps(said).encode("ascii")], list(descriptors))


def receive(end: socket.socket, most: int = DESCRIPTORS) -> tuple[Said, list[int]]:
    """The next packet, with so many descriptors at most: the system closes what is beyond. Raises EOFError when there
    is none any more, ValueError when it makes no sense."""
    octets, descriptors, _, _ = socket.recv_fds(end, PACKET_LIMIT, most)
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if not octets:
            raise EOFError
        said = json.loads(octets)
        if not isinstance(said, dict):
            raise ValueError("not an object")
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return said, descriptors


class Channel:
    """One end of it in a running reactor (an IReadDescriptor). ``heard`` gets each packet with its descriptors, which
    it closes; ``most`` of them, for a worker may not fill the supervisor's table. ``ended`` is told once that the other
    side is gone."""

    def __init__(
        self,
        reactor: Any,
        end: socket.socket,
        heard: Callable[[Said, list[int]], object],
        ended: Callable[[], object],
        most: int = 0,
    ) -> None:
        self._reactor = reactor
        self._end = end
        self._heard = heard
        self._ended = ended
        self._most = most
        self.open = True
        end.setblocking(False)
        reactor.addReader(self)

    def tell(self, said: Said, descriptors: Sequence[int] = ()) -> bool:
        """Whether the other side will hear it: not when it is gone, or has long not listened."""
        try:
            send(self._end, said, descriptors)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self.open:
            self.open = False
            self._reactor.removeReader(self)
            self._end.close()

    # --- IReadDescriptor ----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._end.fileno() if self.open else -1

    def logPrefix(self) -> str:
        return "workers"

    def doRead(self) -> None:
        while self.open:
            try:
                said, descriptors = receive(self._end, self._most)
            except BlockingIOError:
                return
            except (EOFError, OSError):
                self.close()
                self._ended()
                return
            except ValueError:
                continue
            self._heard(said, descriptors)

    def connectionLost(self, reason: Any) -> None:
        """The reactor has found the socket to be broken."""
        with contextlib.suppress(OSError):
            self.close()
