"""A gateway that promises what it does not keep: ``forgetful_gateway.py CONFIG HOW run``. ``HOW``: ``loses`` every
third message, ``alters`` it, or is ``dead`` when it is started again. What it does hand over, it hands over at once."""

from __future__ import annotations

import configparser
import smtplib
import socketserver
import sys
from pathlib import Path

config = configparser.ConfigParser()
config.read(sys.argv[1])
HOW = sys.argv[2]
PORT = int(config["gateway"]["listen"].split(":")[1])
PRIMARY = int(config["domain selftest.test"]["primary"].split(":")[1])


class Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            if line[:4].upper() != b"DATA":
                self.wfile.write(b"250 ok\r\n")
                continue
            self.wfile.write(b"354 go on\r\n")
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line[1:] if line.startswith(b".") else line)
            self.keep(b"".join(lines))
            self.wfile.write(b"250 2.0.0 accepted\r\n")

    def keep(self, octets: bytes) -> None:
        third = int(octets.split(b"\r\n")[0].split(b" ")[1]) % 3 == 0
        if third and HOW == "loses":
            return
        if third and HOW == "alters":
            octets += b"more\r\n"
        with smtplib.SMTP("127.0.0.1", PRIMARY) as line:
            line.sendmail("a@selftest.test", ["b@selftest.test"], octets)


if HOW == "dead":
    started = Path(sys.argv[1]).with_name("started")
    if started.exists():
        sys.exit("it does not feel well")
    started.touch()
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", PORT), Session).serve_forever()
