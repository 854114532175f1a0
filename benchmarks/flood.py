"""A flood of connections from one address that is refused before the greeting.

Knows how such connections are made and counted, and how each peer is told whom to refuse. ``python -m benchmarks.flood
'{"port": …}'`` prints JSON. Does not know SMTP beyond the code of the first answer.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures
from benchmarks.load import IP_BIND_ADDRESS_NO_PORT
from benchmarks.peers import OURS, PROXY, Ours, Peer
from benchmarks.scenarios import Effort

# On a blacklist; peers that come up are looked for from another.
FLOODER = "127.0.0.66"
AT_ONCE = 50
PATIENCE = 10.0
LISTED = f"\n[lists]\nblacklist = {FLOODER}\n"
# Before it would look the address up, and so at the first place where it refuses.
PLUGIN = (
    f"const listed = new Set(['{FLOODER}'])\n"
    "exports.hook_lookup_rdns = (next, connection) => "
    "listed.has(connection.remote.ip) ? next(DENYDISCONNECT, 'your address is on the blacklist here') : next()\n"
)


def flood(port: int, seconds: float) -> dict[str, Any]:
    """As many connections as are refused within ``seconds``; one that is answered otherwise has failed."""
    poll = select.epoll()
    open_: dict[int, tuple[socket.socket, bytes]] = {}
    refused = failed = 0

    def call() -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((FLOODER, 0))
        connection.connect_ex(("127.0.0.1", port))
        open_[connection.fileno()] = (connection, b"")
        poll.register(connection.fileno(), select.EPOLLIN)

    started = time.perf_counter()
    for _ in range(AT_ONCE):
        call()
    while open_ and time.perf_counter() < started + seconds + PATIENCE:
        for number, _ in poll.poll(1.0):
            connection, heard = open_[number]
            try:
                octets = connection.recv(1024)
            except OSError:
                octets = b""
            if octets:
                open_[number] = (connection, heard + octets)
                continue
            refused += heard[:3] == b"554"
            failed += heard[:3] != b"554"
            poll.unregister(number)
            connection.close()
            del open_[number]
            if time.perf_counter() < started + seconds:
                call()
    return {"refused": refused, "failed": failed + len(open_), "seconds": time.perf_counter() - started}


def measured(peer: Peer, effort: Effort) -> Figures:
    """Refusals a second, and CPU milliseconds of each."""
    cpu = peer.cpu_seconds()
    plan = json.dumps({"port": peer.port, "seconds": effort.seconds})
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.flood", plan], capture_output=True, text=True, check=True
    ).stdout
    result = json.loads(told)
    return {
        "rate": result["refused"] / max(result["seconds"], 1e-9),
        "cpu_ms": (peer.cpu_seconds() - cpu) / max(result["refused"], 1) * 1000,
        "failed": float(result["failed"]),
    }


def ours(folder: Path) -> Peer:
    return Ours(folder, more=LISTED)


def haraka(folder: Path) -> Peer:
    from benchmarks.haraka import Haraka

    return Haraka(folder, durable=False, more={"flood": PLUGIN})


OWN = {OURS: ours, PROXY: haraka}

if __name__ == "__main__":
    print(json.dumps(flood(**json.loads(sys.argv[1]))))
