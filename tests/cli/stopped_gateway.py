"""A data folder as a stopped gateway leaves it, and a process that serves it as a running one would."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from inboundmx.cli.files import CommandClock
from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, SpoolRecipient, State
from inboundmx.model.message import Body
from inboundmx.ports import Fact
from inboundmx.spool.sqlite import SqliteSpool
from inboundmx.storage.ledger import Ledger
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.writer import InlineLane, at_once

INI = """\
[gateway]
hostname = gateway.example.test
data = {data}
listen = tcp:2525:interface=127.0.0.1

[log]
to = {log}

[domain a.test]
primary = 127.0.0.1:2526
recipients = any
"""

NOW = time.time()
MAIL = b"Subject: hello\r\nFrom: ann@sender.example\r\n\r\nA first line.\r\n"


def entry(id: str, **facts: Any) -> SpoolEntry:
    made = SpoolEntry(
        id=id,
        message_id="m" + id,
        body_id=id,
        received_at=NOW - 7200,
        sender=Address("ann", "sender.example"),
        recipients=(SpoolRecipient(Address("bob", "a.test")),),
        size=len(MAIL),
        domain="a.test",
        next_attempt_at=NOW + 540,
    )
    return replace(made, **facts)


HELD: dict[str, Any] = {"state": State.HELD, "next_attempt_at": None, "cause": "undeliverable"}
QUARANTINED: dict[str, Any] = {"state": State.QUARANTINED, "next_attempt_at": None, "cause": "level"}
ENTRIES = (
    entry("entry0active"),
    entry("entry1held", **HELD, received_at=NOW - 60, sender=None),
    entry("entry2quarantined", **QUARANTINED, sender=Address("zoe", "bad.example"), received_at=NOW - 600),
)


class Silent:
    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        """Nothing is kept."""


class StoppedGateway:
    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        self.log = folder / "gateway.log"
        self.config = folder / "gateway.ini"
        self.config.write_text(INI.format(data=self.data, log=self.log))

    @contextlib.contextmanager
    def spool(self) -> Iterator[SqliteSpool]:
        spool = SqliteSpool.open(
            str(self.data / "spool" / "0"),
            str(self.data),
            clock=CommandClock(),
            journal=Silent(),
            from_thread=at_once,
            lane=lambda name: InlineLane(),
        )
        try:
            yield spool
        finally:
            spool.close()

    def keep(self, *entries: SpoolEntry) -> None:
        body = Body(len(MAIL), MAIL, None, hashlib.sha256(MAIL).digest())
        with self.spool() as spool:
            done = spool.commit(Change(add=tuple(Deposit(entry, Content(b"", 0, body)) for entry in entries)))
            assert done.called and done.result is None

    def kept(self) -> dict[str, SpoolEntry]:
        with self.spool() as spool:
            return {entry.id: entry for entry in spool.entries()}

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Callable[..., None]]:
        ledger = Ledger(
            str(self.data),
            "0",
            keep=1e9,
            keep_size=2**30,
            clock=CommandClock(),
            report=lambda event, fields: None,
            from_thread=at_once,
            lane=lambda name: InlineLane(),
        )
        yield ledger.add
        ledger.close()

    def remember(self, facts: dict[str, Fact], space: str = "greylist") -> None:
        """In the greylist, or what stands beside it."""
        state = SqliteStateStore(
            str(self.data), CommandClock(), at_once, report=lambda event, fields: None, lane=lambda name: InlineLane()
        )
        for key, fact in facts.items():
            state.put(space, key, fact)
        state.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The same folder served by the real spool, operations and control socket."""
        command = [sys.executable, "-c", textwrap.dedent(SERVER), str(self.config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None and server.stdout.readline() == "ready\n"
                yield server
            finally:
                server.terminate()
                assert server.wait(30) == 0


SERVER = """
    import sys
    from functools import partial
    from pathlib import Path
    from twisted.internet import reactor
    from inboundmx.app.control import ControlSocket
    from inboundmx.app.greylist_operations import GreylistOperations
    from inboundmx.app.block_operations import BlockOperations
    from inboundmx.app.list_operations import ListOperations
    from inboundmx.app.health import ServicesHealth
    from inboundmx.app.operations import Operations
    from inboundmx.app.pause_operations import PauseOperations
    from inboundmx.app.recipient_operations import RecipientOperations
    from inboundmx.app.settings import load
    from inboundmx.delivery.pausing import Pauses
    from inboundmx.directory.memory import Memory
    from inboundmx.intake.doorkeeping import forget_shared
    from inboundmx.intake.live_lists import LiveLists
    from inboundmx.net.clock import ReactorClock
    from inboundmx.spool.sqlite import SqliteSpool
    from inboundmx.storage.lists_file import ListsFile
    from inboundmx.storage.pause_file import PauseFile
    from inboundmx.storage.state import SqliteStateStore

    class Journal:
        def record(self, event, id, fields, *, level="info"):
            if level != "debug" and "asked_by" in fields:
                print(event, id, fields["asked_by"], flush=True)

    class Deliveries:
        def changed(self, ids): pass
        def force(self, ids): pass
        def set_aside(self, ids): return set(ids)
        def status(self):
            hosts = {"127.0.0.1:2526": {"state": "open", "last_error": "connection refused"}}
            return {"hosts": hosts, "queues": {"a.test": {"later": 1, "due": 0, "running": 0}}, "claimed": 0}

    settings = load(sys.argv[1])
    data = settings.gateway.data
    clock = ReactorClock(reactor)
    journal = Journal()
    spool = SqliteSpool.open(data + "/spool/0", data, clock=clock, journal=journal, from_thread=reactor.callFromThread)
    workers = [{"worker": "0", "pid": 7, "connections": 3}]
    health = ServicesHealth(clock, journal)
    health.noted("clamd /run/clamav/clamd.ctl", False, "connection refused")
    health.noted("zen.spamhaus.org", True, "")
    facts = lambda: {"connections": 3, "workers": workers, "started_at": clock.now() - 150, "services": health.rows(),
                     "paused": pausing.rows()}
    state = SqliteStateStore(data, clock, reactor.callFromThread, report=lambda event, fields: None)
    file = PauseFile(data)
    async def keep(pauses):
        file.write(pauses)
    pauses = Pauses(clock, journal, keep, file.read())
    pausing = PauseOperations(pauses, clock, lambda: settings)
    async def at_once(work, *arguments):
        return work(*arguments)
    lists = LiveLists(clock, journal, ListsFile(data), at_once)
    lists.begin()
    blocks = LiveLists(clock, journal, ListsFile(data, "blocks"), at_once, "blocks")
    blocks.begin()
    recipients = RecipientOperations(state, Memory(state, clock), journal, clock, lambda: settings)
    nouns = {"blocks": BlockOperations(blocks, journal, clock, partial(forget_shared, state)),
             "greylist": GreylistOperations(state, journal, clock, lambda: settings), "spool": pausing,
             "lists": ListOperations(lists, journal, clock, lambda: settings), "recipients": recipients}
    paused = lambda domain: pauses.of(domain) is not None
    operations = Operations(spool, Deliveries(), journal, clock, settings, facts, nouns, paused)
    control = ControlSocket(Path(data), operations, reactor)
    control.startService()
    async def stop():
        await control.stopService()
        await state.close()
        await spool.close()
    from twisted.internet.defer import ensureDeferred
    reactor.addSystemEventTrigger("before", "shutdown", lambda: ensureDeferred(stop()))
    print("ready", flush=True)
    reactor.run()
"""
