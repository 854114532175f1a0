"""A primary that takes long over each message: ``python -m benchmarks.slow_primary PORT``.

Knows as much SMTP as a gateway speaks to its primary, and counts as smtp-sink does. Does not keep anything.
"""

from __future__ import annotations

import asyncio
import sys

from benchmarks.peers import Sink

SECONDS = 0.2


class SlowSink(Sink):
    cwd = None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.slow_primary", str(self.port)]


class Primary:
    def __init__(self) -> None:
        self._messages = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 slow.primary.example ESMTP\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-slow.primary.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(SECONDS)
                    self._messages += 1
                    sys.stdout.write(f"mesg={self._messages}\r")
                    sys.stdout.flush()
                    writer.write(b"250 taken\r\n")
                else:
                    writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 yes\r\n")
                    if verb == b"QUIT":
                        break
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(Primary().serve, "127.0.0.1", port, limit=2**20, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
