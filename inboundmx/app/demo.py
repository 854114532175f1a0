"""What ``make run`` starts: a gateway on loopback, and in front of nothing else a primary that saves what it receives.

Knows how the two are set up and what a newcomer should type next. Does not know how a gateway works: it is the real
one, and the primary speaks SMTP with the same server.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError

from inboundmx.app.control import AlreadyRunning, make_way
from inboundmx.app.process import prepare
from inboundmx.app.starting import CannotStart
from inboundmx.app.usual_checks import PACKAGES, missing, usual_checks
from inboundmx.cli.asking import SOCKET_NAME
from inboundmx.cli.printing import complain, safe, say, shortened
from inboundmx.model.address import Address, written
from inboundmx.model.envelope import Envelope
from inboundmx.model.message import Body, Message
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import MB, GatewaySettings, Settings, SmtpSettings
from inboundmx.net.chance import SystemChance
from inboundmx.net.clock import ReactorClock
from inboundmx.policy.encoded_words import decoded
from inboundmx.ports import StorageFull, Welcome
from inboundmx.smtp.server import SmtpServerFactory

STOP_SECONDS = 2.0
_ID = re.compile(rb"\bid ([0-9a-z]{15})\b")
# More than the gateway takes: it adds header fields.
LARGEST = 64 * MB

_INI = """\
# Written by `inboundmx demo` each time it starts. `inboundmx check` tells what it means.
[gateway]
hostname = gateway.example.test
listen = tcp:{port}:interface=127.0.0.1
data = {folder}/data
workers = 0

[log]
to = {folder}/inboundmx.log
format = text

[domain example.test]
primary = 127.0.0.1:{primary_port}
recipients = any

# Mail whose subject holds these words adds up to level medium, which tags it ...
[check offer]
use = headers
header = Subject
value = special offer
weight.match = 20

# ... and with these to level high, which refuses it.
[check lottery]
use = headers
header = Subject
value = lottery
weight.match = 30

# The usual checks. Who sends from this machine is not asked what only strangers can answer.
"""
_LOCAL = "skip_for = 127.0.0.0/8 ::1"
_ABOUT_STRANGERS = frozenset({"rdns", "helo", "spamhaus", "spamcop", "dnswl", "greylist"})


def _ini(folder: Path, port: int, primary_port: int, left_out: list[str]) -> str:
    checks = usual_checks(left_out, lambda name: _LOCAL if name in _ABOUT_STRANGERS else "")
    return _INI.format(folder=folder, port=port, primary_port=primary_port) + checks


class MemoryDraft:
    """``ports.Draft`` of a primary that only ever sees a newcomer's mail."""

    def __init__(self) -> None:
        self._octets = bytearray()

    def write(self, chunk: bytes) -> None:
        if len(self._octets) + len(chunk) > LARGEST:
            raise StorageFull("the demonstration primary takes no message as large as this")
        self._octets += chunk

    def finish(self) -> Body:
        head = bytes(self._octets)
        return Body(len(head), head, None, hashlib.sha256(head).digest())

    def discard(self) -> None:
        self._octets.clear()


class SavingConversation:
    """``ports.Conversation``: takes everything, and saves it as a file of its own."""

    def __init__(self, folder: Path, session: Session, arrived: Callable[[Path, str, list[str], Body], None]) -> None:
        self._folder = folder
        self._session = session
        self._arrived = arrived
        self._sender: Address | None = None
        self._recipients: list[Address] = []
        self._count = 0

    def arriving(self) -> Welcome:
        return Welcome(None, strange=False)

    def client(self) -> Session:
        return self._session

    def connected(self, early: bool = False) -> Awaitable[Reply]:
        return succeed(Reply(220, "", "primary.example.test the demonstration primary"))

    def hello(self, session: Session) -> Awaitable[Reply]:
        return succeed(Reply(250, "", "primary.example.test"))

    def mail(self, envelope: Envelope, prdr: bool = False) -> Awaitable[Reply]:
        self._sender = envelope.sender
        return succeed(Reply(250, "2.1.0", "ok"))

    def recipient(self, address: Address, notify: str = "", original: str = "") -> Awaitable[Reply]:
        self._recipients.append(address)
        return succeed(Reply(250, "2.1.5", "ok"))

    def data(self) -> Awaitable[Reply]:
        return succeed(Reply(354, "", "go ahead, end with a line that is a dot"))

    def draft(self) -> MemoryDraft:
        return MemoryDraft()

    def content(self, body: Body) -> Awaitable[Reply]:
        self._count += 1
        # The gateway's own id, which `explain` knows, stands in the first Received field.
        given = _ID.search(body.head, 0, 1000)
        path = self._folder / f"{given[1].decode() if given else f'{self._session.id}-{self._count}'}.eml"
        beside = path.with_suffix(".part")
        beside.write_bytes(body.head)
        beside.rename(path)
        self._arrived(path, written(self._sender) or "<>", [str(address) for address in self._recipients], body)
        return succeed(Reply(250, "2.0.0", f"saved as {path.name}"))

    def refused(self, verb: str, reply: Reply) -> Reply:
        return reply

    def reset(self) -> None:
        self._sender, self._recipients = None, []

    def closed(self, reason: str) -> None:
        """Nothing is kept for a connection."""


class SavingReception:
    """``ports.Reception`` of the demonstration primary. ``arrived`` is told the file, the sender, the recipients and
    the content of each message once it is saved."""

    def __init__(self, folder: Path, arrived: Callable[[Path, str, list[str], Body], None]) -> None:
        self._folder = folder
        self._arrived = arrived

    def unwelcome(self, session: Session) -> None:
        return None

    def conversation(self, session: Session) -> SavingConversation:
        return SavingConversation(self._folder, session, self._arrived)


def run(folder: Path, port: int, primary_port: int) -> int:
    """Both, in the foreground, until Ctrl-C or SIGTERM. 0: ended as asked; 2: could not start."""
    from twisted.internet import reactor as made

    reactor: Any = made
    folder = folder.absolute()
    saved = folder / "primary"
    try:
        saved.mkdir(parents=True, exist_ok=True)
        # Before the INI is written: another demonstration may be running by it.
        make_way(folder / "data" / SOCKET_NAME)
        config = folder / "inboundmx.ini"
        left_out = missing()
        config.write_text(_ini(folder, port, primary_port, left_out), encoding="utf-8")
    except (OSError, AlreadyRunning) as trouble:
        complain(f"cannot use {folder}: {getattr(trouble, 'strerror', None) or trouble}; give another with --folder")
        return 2
    settings = Settings(GatewaySettings("primary.example.test"), SmtpSettings(max_message_size=LARGEST))
    factory = SmtpServerFactory(SavingReception(saved, _tell), ReactorClock(reactor), SystemChance(), settings)
    try:
        primary = reactor.listenTCP(primary_port, factory, interface="127.0.0.1")
    except CannotListenError as trouble:
        reason = getattr(trouble.socketError, "strerror", None) or trouble.socketError
        complain(f"the demonstration primary cannot listen on 127.0.0.1:{primary_port}: {reason}; "
                 "give another port with --primary-port")  # fmt: skip
        return 2
    try:
        gateway = prepare(str(config))
        gateway.privilegedStartService()
        gateway.startService()
    except CannotStart as trouble:
        trouble.tell()
        complain("give other ports with --port and --primary-port, or another folder with --folder")
        return 2

    async def stop() -> None:
        # The gateway first: what it still hands over has somewhere to go.
        await gateway.stopService()
        await primary.stopListening()
        await factory.drain(STOP_SECONDS)

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
    reactor.callWhenRunning(lambda: _introduce(folder, port, primary_port, left_out))
    reactor.run()
    say("", "both have ended; the files stay in " + _shown(folder))
    return 0


def _introduce(folder: Path, port: int, primary_port: int, left_out: list[str]) -> None:
    command = f"{_own_command()} --config {shlex.quote(_shown(folder / 'inboundmx.ini'))}"
    swaks = f"swaks --server 127.0.0.1:{port} --from me@sender.example --to you@example.test"
    python = (
        f"s = smtplib.SMTP('127.0.0.1', {port}); "
        "s.sendmail('me@sender.example', 'you@example.test', 'Subject: hello\\n\\nA first message.\\n'); s.quit()"
    )
    absent = "" if shutil.which("swaks") else "    (apt install swaks)"
    say(
        "",
        f"  gateway   127.0.0.1:{port}, for mail to example.test",
        f"  primary   127.0.0.1:{primary_port}, saves each message as a file in {_shown(folder / 'primary')}/",
        f"  settings  {_shown(folder / 'inboundmx.ini')}",
        f"  log       {_shown(folder / 'inboundmx.log')}",
        *(
            f"  {name} does not run on this machine, so nothing asks it (apt install {PACKAGES[name]})"
            for name in left_out
        ),
        "",
        "Send a message, from another terminal in this folder:" + absent,
        "",
        f"  {swaks} --header 'Subject: hello'",
        "",
        "or with Python alone:",
        "",
        f'  python3 -c "import smtplib; {python}"',
        "",
        "A subject with 'special offer' in it is tagged, one with 'lottery' refused:",
        "",
        f"  {swaks} --header 'Subject: you won the lottery'",
        "",
        "Then ask; ID is the last word of what the gateway answered:",
        "",
        f"  {command} explain ID",
        f"  {command} spool list",
        f"  {command} status",
        "",
        "Ctrl-C ends both.",
        "",
    )
    sys.stdout.flush()


def _tell(path: Path, sender: str, recipients: list[str], body: Body) -> None:
    """One line when a message has come out at the other end."""
    fields = Message("", body).fields
    subject = next((decoded(field.text()) for field in fields if field.name == "subject"), "without a subject")
    others = f" and {len(recipients) - 1} more" if len(recipients) > 1 else ""
    whose = f"from {sender} to {recipients[0]}{others}"
    say(f"{time.strftime('%H:%M:%S')} {safe(shortened(whose, 90))}: {safe(shortened(subject, 60))}, in {_shown(path)}")
    sys.stdout.flush()


def _own_command() -> str:
    """How this program was started, for the lines to type next."""
    started = Path(sys.argv[0])
    if started.name == "inboundmx" and os.access(started, os.X_OK):
        return _shown(started) if started.parent != Path() else started.name
    return f"{shlex.quote(sys.executable)} -m inboundmx"


def _shown(path: Path) -> str:
    """As short as it can be typed from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
