"""A stranger on a blocking line, for those who measure what others notice meanwhile.

Knows the way to DATA. Does not know what is sent then, nor how slowly.
"""

from __future__ import annotations

import socket
import sys


class Sender:
    """Past the greeting. ``source``: the address to come from, the system's choice where it is empty."""

    def __init__(self, port: int, source: str = "") -> None:
        self.wire = socket.create_connection(("127.0.0.1", port), 120, (source, 0) if source else None)
        self.answer()

    def answer(self) -> str:
        """A whole reply. Ends the process where there is none."""
        said = b""
        while not said.endswith(b"\r\n") or said[said.rfind(b"\n", 0, -2) + 1 :][3:4] == b"-":
            received = self.wire.recv(4096)
            if not received:
                sys.exit("closed")
            said += received
        return said.decode()

    def begin(self) -> None:
        """As far as content may follow."""
        for line in (
            "EHLO load.stranger.example", "MAIL FROM:<load@stranger.example>", "RCPT TO:<user@here.example>", "DATA",
        ):  # fmt: skip
            self.wire.sendall(line.encode() + b"\r\n")
            self.answer()
