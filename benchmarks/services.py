"""What checks ask, for benchmarks: nsd, clamd and spamd on loopback, and a signer.

Knows how each is started and when it answers. Does not know what is measured with it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.peers import Failed, free_port, program, stopped_on_failure

# Lists are not asked about loopback: mail that they are to be asked about comes from here.
CLIENT = "192.0.2.25"
STRANGER = "stranger.example"
# Seconds after which whoever was put off may come again, with some to spare.
BLOCK = 1.2
LISTS = ("one.lists.example", "two.lists.example", "three.lists.example")


class Service:
    """A child in a folder of its own; whoever makes it waits until it is ready."""

    def __init__(self, name: str, folder: Path, command: Sequence[str]) -> None:
        self.name = name
        self._log = folder / f"{name}.output"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.pid = self._process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        with stopped_on_failure(self.stop):
            while time.monotonic() < deadline and self._process.poll() is None:
                with contextlib.suppress(OSError):
                    if ready():
                        return
                time.sleep(0.02)
            raise Failed(f"{self.name} does not answer\n{self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def asked(address: str | tuple[str, int], question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as line:
        line.settimeout(60.0)
        line.connect(address)
        line.sendall(question)
        heard = b""
        while more := line.recv(65536):
            heard += more
        return heard


class Nsd(Service):
    """An authority for ``zones``, each the text of its records; all may be kept for an hour."""

    def __init__(self, folder: Path, zones: Mapping[str, str]) -> None:
        nsd = program("nsd", "nsd")
        folder.mkdir()
        self.port = free_port()
        lines = [
            *("server:", f"  ip-address: 127.0.0.1@{self.port}", '  username: ""', '  chroot: ""', '  database: ""'),
            *(f'  pidfile: "{folder}/pid"', '  xfrdfile: ""', '  zonelistfile: ""', f'  xfrdir: "{folder}"'),
            *("  server-count: 1", "  rrl-ratelimit: 0", "remote-control:", "  control-enable: no"),
        ]
        for zone, records in zones.items():
            file = folder / f"{zone.strip('.') or 'root'}.zone"
            file.write_text(
                f"$ORIGIN {zone.strip('.')}.\n$TTL 3600\n@ SOA ns root 1 3600 3600 3600 3600\n@ NS ns\n{records}\n"
            )
            lines += ["zone:", f"  name: {zone}", f"  zonefile: {file}"]
        (folder / "nsd.conf").write_text("\n".join(lines) + "\n")
        super().__init__("nsd", folder, [nsd, "-d", "-c", str(folder / "nsd.conf")])
        self.wait_until(self._answers)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.settimeout(0.2)
            question = struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\0" + struct.pack("!2H", 2, 1)
            line.sendto(question, ("127.0.0.1", self.port))
            return len(line.recv(512)) >= 12


class Clamd(Service):
    """clamd with one signature of our own."""

    def __init__(self, folder: Path) -> None:
        clamd = program("clamd", "clamav-daemon")
        folder.mkdir()
        (folder / "db").mkdir()
        (folder / "db" / "home.ndb").write_text(f"Home.Made:0:*:{b'inboundmx-home-made-signature'.hex()}\n")
        self.path = folder / "clamd.sock"
        (folder / "clamd.conf").write_text(
            f"Foreground yes\nLocalSocket {self.path}\nDatabaseDirectory {folder}/db\nTemporaryDirectory {folder}\n"
            f"LogFile {folder}/clamd.log\nMaxThreads 2\nStreamMaxLength 25M\nSelfCheck 0\n"
        )
        super().__init__("clamd", folder, [clamd, f"--config-file={folder}/clamd.conf"])
        self.wait_until(lambda: asked(str(self.path), b"zPING\0").startswith(b"PONG"))


class Spamd(Service):
    """spamd with the rules it comes with, no network tests, and so many children from the first to the last."""

    def __init__(self, folder: Path, children: int) -> None:
        spamd = program("spamd", "spamd")
        folder.mkdir()
        self.port = free_port()
        user = []
        if os.geteuid() == 0:
            user = ["-u", "nobody"]
            shutil.chown(folder, "nobody")
        count = str(children)
        command = [
            *(spamd, "-L", "-x", "-i", "127.0.0.1", "-p", str(self.port), *user, "-s", "stderr"),
            *("--max-children", count, "--min-children", count, "--min-spare", "1", "--max-spare", count),
            *("--max-conn-per-child", "1000000"),
            *(f"--helper-home-dir={folder}", "-r", str(folder / "spamd.pid")),
        ]
        super().__init__("spamd", folder, command)
        self.wait_until(lambda: b"PONG" in asked(("127.0.0.1", self.port), b"PING SPAMC/1.5\r\n\r\n"), 60.0)


class Signer:
    """Signs for one domain, as a usual sender does: rsa-sha256, 2048 bits, relaxed/relaxed."""

    def __init__(self, domain: str, selector: str = "s", key: rsa.RSAPrivateKey | None = None) -> None:
        self.domain = domain
        self.selector = selector
        self.key = key or rsa.generate_private_key(65537, 2048)

    @cached_property
    def _pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )

    @cached_property
    def record(self) -> str:
        public = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"

    def signed(self, mail: bytes) -> bytes:
        names = [b"from", b"to", b"subject", b"date", b"mime-version", b"content-type"]
        relaxed = (b"relaxed", b"relaxed")
        return bytes(
            dkim.sign(
                mail, self.selector.encode(), self.domain.encode(), self._pem, canonicalize=relaxed,
                include_headers=names,
            )
        ) + mail  # fmt: skip


def text_row(value: str) -> str:
    """A TXT row of a zone file; what is longer than a string may be in several."""
    return "TXT " + " ".join(f'"{value[at : at + 200]}"' for at in range(0, len(value), 200))


def authority(folder: Path, signer: Signer, selectors: Sequence[str] = ()) -> Nsd:
    """nsd for STRANGER, whose mail comes from CLIENT, and for three lists that do not know it."""
    rows = [
        f"@ {text_row(f'v=spf1 include:_spf.{STRANGER} -all')}",
        f"_spf {text_row(f'v=spf1 ip4:192.0.2.0/28 ip4:{CLIENT} ip4:127.0.0.1 ~all')}",
        f"load A {CLIENT}",
        f"_dmarc {text_row('v=DMARC1; p=reject')}",
        *(f"{name}._domainkey {text_row(signer.record)}" for name in (signer.selector, *selectors)),
    ]
    zones = {STRANGER: "\n".join(rows), "2.0.192.in-addr.arpa": f"25 PTR load.{STRANGER}."}
    zones |= dict.fromkeys(LISTS, "2.0.0.127 A 127.0.0.2")
    return Nsd(folder, zones)


NAMED_CHECKS = (
    "".join(f"[check list{number}]\nuse = dnsbl\nzone = {zone}\nweight.listed = 20\n"
            for number, zone in enumerate(LISTS))
    + """
[check spf]
use = spf
identity = mailfrom helo
weight.fail = 15
weight.softfail = 5
[check greylist]
use = greylist
[check dkim]
use = dkim
weight.fail = 3
[check dmarc]
use = dmarc
weight.fail_reject = 20
"""
)  # fmt: skip
CONTENT_CHECKS = """
[check lottery]
use = headers
header = Subject
value = lottery
weight.match = 15
[check attachments]
use = attachments
weight.forbidden = reject
weight.too_deep = 20
"""
NAME_CHECKS = """
[check rdns]
use = rdns
weight.none = 10
weight.unconfirmed = 5
[check helo]
use = helo
weight.invalid = 5
weight.unresolvable = 3
"""


def first_opinions(dns_port: int) -> str:
    """Makes a gateway ask the checks of the figure: SPF, DKIM, DMARC, lists, greylist. A retry passes after BLOCK."""
    return f"[dns]\nservers = 127.0.0.1:{dns_port}\n[greylisting]\nblock = 1s\n{NAMED_CHECKS}"


def outcomes(log: Path, expected: Mapping[str, str]) -> tuple[int, int]:
    """Of the messages that the gateway has handed over by its log: how many, and how many of these had other outcomes
    than the ``expected`` (several may be written with a space between)."""
    messages = wrong = 0
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            if '"handed_over"' not in line:
                continue
            found = {check: outcome for check, outcome, *_ in json.loads(line).get("checks", [])}
            messages += 1
            wrong += not all(found.get(check, "not asked") in words.split() for check, words in expected.items())
    return messages, wrong
