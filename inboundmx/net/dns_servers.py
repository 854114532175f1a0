"""Which name servers are asked: those of ``[dns] servers``, or the machine's own.

Knows how they are written and where the machine keeps its own. Does not ask any.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from inboundmx.net.dns_transport import Server

RESOLV_CONF = "/etc/resolv.conf"
# As the C library does: more are never asked.
SYSTEM_LIMIT = 3
FALLBACK = Server("127.0.0.1")


def name_servers(written: Sequence[str], system: str = RESOLV_CONF) -> tuple[Server, ...]:
    """``written``: the word ``system``, or addresses as ``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` and
    ``[2001:db8::1]:5353``; anything else raises ValueError."""
    return tuple(server(each) for each in written) if list(written) != ["system"] else _of_system(system)


def server(written: str) -> Server:
    address, port = written, "53"
    if written.startswith("["):
        address, _, rest = written[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif written.count(":") == 1:
        address, _, port = written.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{written}: {port} is no port")
    return Server(str(ip_address(address)), int(port))


def _of_system(path: str) -> tuple[Server, ...]:
    """RFC says nothing of this file; resolv.conf(5) does: without a server, the machine itself is asked."""
    found: list[Server] = []
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with suppress(ValueError):
                    found.append(Server(str(ip_address(words[1]))))
    return tuple(dict.fromkeys(found[:SYSTEM_LIMIT])) or (FALLBACK,)
