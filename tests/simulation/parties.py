"""Who talks to the gateway: strangers that send, and primaries that receive, each with its moods.

Both speak SMTP by the letter, written apart from the gateway's own code. What a primary takes and what a stranger is
told goes into the ``World``'s books.
"""

from __future__ import annotations

import re

DROP, SILENT = "drop", "silent"
# What may go wrong with one answer of a primary in trouble; the words say what is done instead.
TROUBLES = (DROP, SILENT, "451 4.3.0 trouble", "421 4.3.2 closing", "garbage")
GONE = "gone-"
# Of that domain it is asked who exists, so that a stranger of the gateway's own making is refused there as well.
VERIFIED = "@f.example"
# Who may send out, as a liar says of himself; and the ways to come to us: behind one who names his clients, behind a
# proxy, and with a name that nobody believes.
MAY_SEND = "192.0.2.77"
MANNERS = ("direct", "direct", "front", "proxied", "liar")
NAMES = ("ann", "bob")
THERE = (*NAMES, "postmaster@")
# When a retry of what was greylisted is in its window.
BLOCK, PASS = 15 * 60.0, 6 * 3600.0


class Primary:
    """A host that takes mail. ``trouble`` is how likely each answer goes wrong; ``greylists``: 450 for who is new, and
    ``seen`` is who is not; ``lmtp``: it answers for each recipient, and ``mixed`` is how likely not with 250; ``dsn``:
    it takes over notices of success."""

    lmtp = dsn = False
    mixed = 0.0

    def __init__(self, world, name):
        self.world = world
        self.name = name
        self.reachable = "up"
        self.trouble = 0.0
        self.greylists = False
        self.refuses_us = False
        self.seen: set[str] = set()

    def protocol(self):
        return PrimaryTalk(self)


class PrimaryTalk:
    def __init__(self, host: Primary):
        self.host = host
        self.chance = host.world.chance
        self.buffer = b""
        self.in_data = False
        # It hangs: nothing more is answered on this connection.
        self.hangs = False
        self.begin()

    def begin(self):
        self.sender = None
        self.recipients: list[str] = []

    def makeConnection(self, transport):
        self.transport = transport
        self.answer("220 primary.example ESMTP" if not self.host.refuses_us else "554 5.7.1 go away")

    def connectionLost(self, reason):
        pass

    def dataReceived(self, octets):
        self.buffer += octets
        while True:
            if self.in_data:
                end = self.buffer.find(b"\r\n.\r\n")
                if self.buffer.startswith(b".\r\n"):
                    content, self.buffer = b"", self.buffer[3:]
                elif end >= 0:
                    content, self.buffer = self.buffer[: end + 2], self.buffer[end + 5 :]
                else:
                    return
                self.in_data = False
                self.content(content.replace(b"\r\n..", b"\r\n."))
            elif b"\r\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\r\n", 1)
                self.command(line.decode())
            else:
                return
            if self.transport.disconnecting:
                return

    def answer(self, line):
        """Says it, or what its trouble makes of it. Whether it was said."""
        if self.hangs:
            return False
        if self.chance.random() < self.host.trouble:
            what = self.chance.choice(TROUBLES)
            if what == DROP:
                self.transport.abortConnection()
            elif what == "garbage":
                self.transport.write(b"\xff\x00 what?\r\n")
            elif what == SILENT:
                self.hangs = True
            else:
                self.transport.write(what.encode() + b"\r\n")
                if what.startswith("421"):
                    self.transport.loseConnection()
            return False
        self.transport.write(line.encode() + b"\r\n")
        return True

    def command(self, line):
        verb = line.split(" ")[0].upper()
        if verb == ("LHLO" if self.host.lmtp else "EHLO"):
            dsn = "250-DSN\r\n" if self.host.dsn else ""
            self.answer(f"250-primary.example\r\n250-PIPELINING\r\n{dsn}250-8BITMIME\r\n250 SIZE 100000000")
        elif verb == "MAIL":
            self.begin()
            if self.answer("250 2.1.0 ok"):
                self.sender = re.search("<(.*?)>", line)[1]
        elif verb == "RCPT":
            self.recipient(re.search("<(.*?)>", line)[1])
        elif verb == "DATA":
            if not self.recipients:
                self.answer("554 5.5.1 nobody")
            elif self.answer("354 go on"):
                self.in_data = True
                self.host.world.operator.meanwhile()
        elif verb == "RSET":
            self.begin()
            self.answer("250 2.0.0 ok")
        elif verb == "QUIT":
            self.transport.write(b"221 2.0.0 bye\r\n")
            self.transport.loseConnection()
        else:
            self.answer("500 5.5.2 what?")

    def recipient(self, address):
        if self.sender is None:
            self.answer("503 5.5.1 MAIL first")
        elif address.startswith(GONE) or (address.endswith(VERIFIED) and not address.startswith(THERE)):
            self.answer("550 5.1.1 no such user")
        elif self.host.greylists and address not in self.host.seen:
            self.host.seen.add(address)
            self.answer("450 4.7.1 greylisted")
        elif self.answer("250 2.1.5 ok"):
            self.recipients.append(address)

    def content(self, octets):
        world = self.host.world
        sender, recipients = self.sender, self.recipients
        self.begin()
        if self.host.lmtp:
            self.each(sender, recipients, octets)
            return
        if self.chance.random() < self.host.trouble / 2:
            self.answer("451 4.3.0 not now")
            return
        book = [world.arrived(self.host, sender, recipient, octets) for recipient in recipients]
        self.transport.other.awaited = book
        if not self.answer("250 2.0.0 taken"):
            self.transport.other.awaited = ()

    def each(self, sender, recipients, octets):
        """LMTP: an answer for each, until it goes wrong."""
        said, book = [], []
        for recipient in recipients:
            if self.chance.random() < self.host.mixed:
                said.append(self.chance.choice(("451 4.2.2 full", "552 5.2.2 full", "521 5.3.2 go away")))
                if said[-1].startswith("521"):
                    break
            elif said and self.chance.random() < self.host.trouble:
                break
            else:
                book.append(self.host.world.arrived(self.host, sender, recipient, octets))
                said.append("250 2.0.0 taken")
        self.transport.other.awaited = book
        self.transport.write("".join(f"{line}\r\n" for line in said).encode())
        if len(said) < len(recipients):
            self.transport.abortConnection()


class Stranger:
    """One message on its way to us: tries until it hears a 250 or a 5xx, gives up after a few tries."""

    TRIES = 6

    def __init__(self, world, serial, sender, recipients, parameters, ip, hasty=False):
        self.world = world
        self.serial = serial
        self.sender = sender
        self.left = list(recipients)
        self.parameters = parameters
        self.ip = ip
        # Never waits for the greeting.
        self.hasty = hasty
        self.tries = 0
        # When each recipient was first put off for being new, and how often the clock had jumped by then.
        self.put_off: dict[str, tuple[float, int]] = {}

    def greylisted(self, recipient):
        """Who comes again in time passes, whatever became of us meanwhile; the wall clock is the state's, so a jump of
        it is nobody's fault."""
        world = self.world
        first, jumps = self.put_off.setdefault(recipient, (world.time.at, world.jumps))
        waited = world.time.at - first
        if jumps != world.jumps:
            self.put_off[recipient] = (world.time.at, world.jumps)
        elif BLOCK < waited < PASS:
            world.wrong.append(f"{recipient} from {self.sender} was put off again after {waited:.0f} s")

    def go(self):
        self.tries += 1
        self.world.visit(Visit(self, "early" if self.hasty else self.world.manners.choice(MANNERS)))

    def ended(self, again):
        if again and self.tries < self.TRIES and self.left:
            self.world.time.later(self.world.chance.uniform(960, 2400), self.go)


class Visit:
    """One connection of a stranger. ``manner``: how he comes to us."""

    def __init__(self, stranger: Stranger, manner):
        self.stranger = stranger
        self.manner = manner
        # Whether it was said whose connection it is.
        self.named = manner not in ("front", "liar")
        self.chance = stranger.world.chance
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self.asked = ""
        self.buffer = b""
        self.over = False
        self.key = f"{stranger.serial}-{stranger.tries}"

    def makeConnection(self, transport):
        self.transport = transport
        if self.manner == "proxied":
            transport.write(f"PROXY TCP4 {self.stranger.ip} 192.0.2.1 4000 25\r\n".encode())
        if self.manner == "early":
            self.say("EHLO stranger.example")

    def connectionLost(self, reason):
        self.end(True)

    def end(self, again):
        if not self.over:
            self.over = True
            self.stranger.left = [r for r in self.stranger.left if r not in self.refused]
            self.stranger.ended(again)

    def dataReceived(self, octets):
        self.buffer += octets
        while b"\r\n" in self.buffer and not self.over:
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            if line[3:4] != b"-":
                self.heard(int(line[:3]), line.decode())

    def say(self, line):
        self.asked = line
        self.transport.write(line.encode() + b"\r\n")

    def heard(self, code, line):
        if self.chance.random() < 0.005:
            self.transport.abortConnection()
            self.end(True)
            return None
        asked, recipients = self.asked.split(" ")[0], self.stranger.left
        if self.manner == "early":
            if code < 400:
                self.stranger.world.wrong.append(f"one who did not wait for the greeting heard {line}")
            return self.quit(code < 500)
        if not asked:
            return self.say("EHLO stranger.example") if code == 220 else self.quit(True)
        if asked == "EHLO":
            if not self.named and code == 250:
                self.named = True
                ip = MAY_SEND if self.manner == "liar" else self.stranger.ip
                return self.say(f"XCLIENT ADDR={ip} NAME=[UNAVAILABLE]")
            self.waiting = list(recipients)
            return self.say(f"MAIL FROM:<{self.stranger.sender}>")
        if asked == "XCLIENT":
            if code != (550 if self.manner == "liar" else 220) and code != 421:
                self.stranger.world.wrong.append(f"XCLIENT of a {self.manner}: {line}")
            # Where it is believed all begins anew.
            return self.quit(True) if code == 421 else self.say("EHLO stranger.example")
        if asked == "MAIL" and code == 250:
            return self.next_recipient()
        if asked == "RCPT":
            address = re.search("<(.*)>", self.asked)[1]
            if code == 250:
                self.accepted.append(address)
            elif code >= 500:
                self.refused.append(address)
            elif "greylisted" in line:
                self.stranger.greylisted(address)
            return self.next_recipient()
        if asked == "DATA" and code == 354:
            self.asked = "."
            self.transport.write(self.stranger.world.letter(self) + b".\r\n")
            return None
        if asked == ".":
            self.stranger.world.told(self, code, line)
            if code == 250:
                self.stranger.left = [r for r in recipients if r not in self.accepted]
            elif code >= 500:
                self.refused += self.accepted
            return self.quit(bool(self.stranger.left))
        return self.quit(code < 500)

    def next_recipient(self):
        if self.waiting:
            return self.say(f"RCPT TO:<{self.waiting.pop(0)}>{self.stranger.parameters}")
        if self.accepted:
            return self.say("DATA")
        return self.quit(True)

    def quit(self, again):
        self.transport.write(b"QUIT\r\n")
        self.transport.loseConnection()
        self.end(again)
