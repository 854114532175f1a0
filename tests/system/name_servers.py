"""Name servers as test partners: nsd and rbldnsd, which know nothing of us, and one of ours that misbehaves on purpose.

Knows how each is started on a free port of 127.0.0.1 and when it answers.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import dns.exception
import dns.message
import dns.query
from fakes.name_server import NameServer
from fakes.resolver import Zone
from programs import Child, free_port, need, until


def answers(port: int, name: str) -> bool:
    """Whether somebody says anything there."""
    with suppress(dns.exception.DNSException, OSError):
        dns.query.udp(dns.message.make_query(name, "SOA"), "127.0.0.1", timeout=0.2, port=port)
        return True
    return False


class Nsd(Child):
    """An authority for zones written as files; ``zones`` by name, without SOA and NS."""

    def __init__(self, folder: Path, zones: Mapping[str, str]) -> None:
        super().__init__("nsd", folder)
        self.port = free_port()
        self.zones = zones

    def start(self) -> Self:
        lines = [
            *("server:", f"  ip-address: 127.0.0.1@{self.port}", '  username: ""', '  chroot: ""', '  database: ""'),
            *(f'  pidfile: "{self.folder}/pid"', '  xfrdfile: ""', '  zonelistfile: ""', f'  xfrdir: "{self.folder}"'),
            *("  server-count: 1", "  rrl-ratelimit: 0", "remote-control:", "  control-enable: no"),
        ]
        for zone, records in self.zones.items():
            file = self.folder / f"{zone}.zone"
            file.write_text(f"$ORIGIN {zone}.\n$TTL 60\n@ SOA ns root 1 60 60 60 60\n@ NS ns\n{records}\n")
            lines += ["zone:", f"  name: {zone}", f"  zonefile: {file}"]
        config = self.folder / "nsd.conf"
        config.write_text("\n".join(lines) + "\n")
        self.spawn([need("nsd"), "-d", "-c", str(config)])
        until("nsd answers", lambda: answers(self.port, next(iter(self.zones))))
        return self

    def change(self, **zones: str) -> None:
        """Other records from now on (a name's dots as underscores); who remembers the old ones does so for a minute."""
        self.zones = {**self.zones, **{name.replace("_", "."): records for name, records in zones.items()}}
        self.end()
        self.start()


class Rbldnsd(Child):
    """A list of addresses, or as a ``dnset`` of names; ``entries`` in rbldnsd's own words."""

    def __init__(self, folder: Path, zone: str, entries: str, kind: str = "ip4set") -> None:
        super().__init__("rbldnsd", folder)
        self.port = free_port()
        self.zone = zone
        self.kind = kind
        (folder / "list").write_text("$SOA 60 ns.test root.test 0 60 60 60 60\n" + entries)
        for place in (folder, *folder.parents):
            # It reads its files as another user.
            if place.is_relative_to("/tmp") and place != Path("/tmp"):
                place.chmod(place.stat().st_mode | 0o055)

    def start(self) -> Self:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        options = ["-n", "-q", "-b", f"127.0.0.1/{self.port}", "-r", "/", "-w", str(self.folder), *user, "-c", "0"]
        self.spawn([need("rbldnsd"), *options, "-t", "60", f"{self.zone}:{self.kind}:list"])
        until("rbldnsd answers", lambda: answers(self.port, self.zone))
        return self


class PlayedServer:
    """Our own, in a thread, by UDP and TCP; ``played.mode`` may be changed at any time."""

    def __init__(self, zone: Zone | None = None, mode: str = "", **options: Any) -> None:
        self.played = NameServer(zone, mode, **options)
        self._stream = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._stream.getsockname()[1]
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(("127.0.0.1", self.port))
        for work in (self._by_udp, self._by_tcp):
            threading.Thread(target=work, daemon=True).start()

    @property
    def asked(self) -> int:
        return len(self.played.asked)

    def close(self) -> None:
        for each in (self._datagrams, self._stream):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _by_udp(self) -> None:
        with suppress(OSError):
            while True:
                octets, client = self._datagrams.recvfrom(4096)
                if not octets:
                    return
                for packet in self.played.reply(octets):
                    self._datagrams.sendto(packet, client)

    def _by_tcp(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._stream.accept()
                with connection, suppress(OSError, struct.error):
                    connection.settimeout(5)
                    (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                    for packet in self.played.reply(connection.recv(length, socket.MSG_WAITALL), "tcp"):
                        connection.sendall(struct.pack("!H", len(packet)) + packet)


def looker_up() -> list[str]:
    """The command that looks names up with our resolver."""
    return [sys.executable, str(Path(__file__).parent / "resolver_child.py")]
