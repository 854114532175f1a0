"""The gateway, plugged together: one Twisted service made of all the parts.

Knows who is built from what, in which order things start and stop, and how new settings are swapped in. Does not know
how any part does its work.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.ssl import CertificateOptions
from twisted.logger import globalLogPublisher

from inboundmx.app.block_operations import BlockOperations
from inboundmx.app.checking import warnings_at_start
from inboundmx.app.connection_operations import ConnectionOperations
from inboundmx.app.control import AlreadyRunning, ControlSocket
from inboundmx.app.descriptors import room_for_strangers
from inboundmx.app.greylist_operations import GreylistOperations
from inboundmx.app.health import ServicesHealth
from inboundmx.app.inside import Inside, Surroundings
from inboundmx.app.learning import ReleasedMail
from inboundmx.app.list_operations import ListOperations
from inboundmx.app.listening import CurrentCertificate, bound, stopped
from inboundmx.app.maillog import FaultObserver, LineWriter, MailLog, line_writer
from inboundmx.app.operations import Operations
from inboundmx.app.pause_operations import PauseOperations
from inboundmx.app.recipient_operations import RecipientOperations
from inboundmx.app.settings import BadSettings, load
from inboundmx.app.sockets import Sockets, listened
from inboundmx.app.starting import (
    CannotStart,
    become_user,
    make_folders,
    refuse_fixed,
    shown,
    spool_folder,
)
from inboundmx.app.stopping import Stopping
from inboundmx.checks.api import Tools
from inboundmx.checks.clamav import ClamAV
from inboundmx.cli.asking import SOCKET_NAME
from inboundmx.console.routes import Facts
from inboundmx.console.server import ConsoleService
from inboundmx.delivery.pausing import Pauses
from inboundmx.intake.authentication import Gatekeeper
from inboundmx.intake.blocking import Blocks
from inboundmx.intake.conversation import DISK_RESERVE
from inboundmx.intake.live_lists import LiveLists
from inboundmx.model.settings import Settings
from inboundmx.net.chance import SystemChance
from inboundmx.net.clock import ReactorClock
from inboundmx.net.definitions import Definitions
from inboundmx.net.dns_servers import name_servers
from inboundmx.net.macros import MacroProcess
from inboundmx.net.offload import ThreadOffload
from inboundmx.net.own_addresses import OwnAddresses
from inboundmx.net.peers import PeerLoads
from inboundmx.net.programs import Programs
from inboundmx.net.reactor import quicken
from inboundmx.net.recipient_sources import RecipientSources
from inboundmx.net.resolver import DnsResolver
from inboundmx.net.scanners import ScanningServices
from inboundmx.ports import Hand, Journal, Unavailable
from inboundmx.smtp.client import SmtpTransmitter
from inboundmx.smtp.server import SmtpServerFactory
from inboundmx.smtp.tls import server_options
from inboundmx.spool.bodies import BodyContents, SpoolBodies
from inboundmx.spool.sqlite import SqliteSpool
from inboundmx.storage.archive import FileArchive
from inboundmx.storage.ledger import Ledger
from inboundmx.storage.lists_file import ListsFile
from inboundmx.storage.pause_file import PauseFile
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.users_file import FileUsers
from inboundmx.storage.vocabulary import MappedVocabulary
from inboundmx.storage.writer import at_once

# A stop takes ten seconds at most: messages on their way in, then deliveries, then the disk.
DRAIN_SECONDS = 4.0
STOP_SECONDS = 8.5
# The collector of cycles looks through what is new once so many objects more are alive than before. Mail leaves no
# cycles: at 700, Python's own, it went through what 200 sessions have in hand again and again and found nothing, in 5 %
# of our time. What little is left in cycles otherwise does not add up to much until then.
YOUNG_OBJECTS = 5000

PASSWORD_THREADS, PASSWORDS_WAITING = 2, 30


class GatewayService(Service):
    """One process. ``privilegedStartService`` does what root may be needed for (binding, the key, the log, the data
    folder's owner); ``startService`` gives the privileges up and begins; both raise CannotStart. ``number`` is that of
    the worker: with it go its own spool and ledger."""

    name: Any = "inboundmx"
    # What the events of our life begin with.
    about = ""

    def __init__(self, settings: Settings, reactor: Any, config: str | None = None, number: int = 0) -> None:
        self.settings = settings
        self.number = number
        # Folders of spools that are not orphans even when nobody holds them just now.
        self.keep_off: Collection[str] = ()
        self.adopts = True
        self.control_name = SOCKET_NAME
        # The process whose word is taken for who asks at the control socket.
        self.asked_for: int | None = None
        self.guilty: Collection[str] = ()
        self.hand: Hand | None = None
        self._config = config
        quicken(reactor)
        self._reactor = reactor
        self._clock = ReactorClock(reactor)
        self._chance = SystemChance()
        self._certificate = CurrentCertificate()
        self._console_ports: list[Any] = []
        self._data = Path(settings.gateway.data)
        self._folder = spool_folder(self._data, number)
        self._log: MailLog | None = None
        self.failed: list[str] = []
        self._console = ConsoleService(lambda: self.settings, self._clock)
        # Built once privileges are gone; nobody is heard before the reactor runs, and so not before this is set.
        self._factory = SmtpServerFactory(None, self._clock, self._chance, settings)  # type: ignore[arg-type]
        self._sockets = Sockets(reactor, self._factory, self._certificate, self._factory.for_submission())

    # --- starting -----------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        gateway = self.settings.gateway
        try:
            self._take_certificate(server_options(self.settings.tls))
            writer = line_writer(self.settings.log)
        except (ValueError, OSError) as trouble:
            raise CannotStart([str(trouble)]) from trouble
        self._writer: LineWriter = writer
        make_folders(gateway, [self.number])
        try:
            self._sockets.open(listened(self.settings))
            for endpoint in self.settings.console.listen:
                self._console_ports += bound(self._reactor, endpoint, self._console.factory, self._certificate)
        except CannotStart:
            self._close_ports()
            raise

    def startService(self) -> None:
        self.begin()
        with contextlib.suppress(ValueError):  # Not the main thread: whoever runs us there has other means.
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
            # There is no worker to be replaced.
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        for warning in warnings_at_start(self.settings):
            self._journal.record("exposed", "", {"warning": warning}, level="warning")
        self._journal.record(
            "started", "", {"listen": self._sockets.shown() + [shown(port.getHost()) for port in self._console_ports],
                            "pid": os.getpid(), "settings": self.settings.fingerprint},
        )  # fmt: skip

    def begin(self) -> None:
        """Gives up privileges and builds. Raises CannotStart."""
        try:
            become_user(self.settings.gateway.user)
            self._build()
        except Unavailable as trouble:
            self._close_ports()
            raise CannotStart([trouble.reason]) from trouble
        except (AlreadyRunning, OSError, ValueError) as trouble:
            self._close_ports()
            raise CannotStart([str(trouble)]) from trouble
        super().startService()  # type: ignore[no-untyped-call]

    def _build(self) -> None:
        settings, clock, chance, reactor = self.settings, self._clock, self._chance, self._reactor
        from_thread = reactor.callFromThread
        self._log = journal = MailLog(settings.log, clock, self._writer, None)
        self._journal = journal
        observer: Any = FaultObserver(journal)
        globalLogPublisher.addObserver(observer)
        self._observer = observer

        def report(event: str, fields: Mapping[str, object]) -> None:
            journal.record(event, "", fields, level="error")

        self._ledger = Ledger(
            str(self._data),
            str(self.number),
            keep=settings.log.keep,
            keep_size=settings.log.keep_size,
            clock=clock,
            report=report,
            from_thread=from_thread,
        )
        journal.keep_in(self._ledger)
        self._spool = SqliteSpool.open(
            str(self._folder), str(self._data), clock=clock, journal=journal, from_thread=from_thread,
            at_leisure=getattr(reactor, "at_leisure", at_once), adopt=self.adopts, keep_off=self.keep_off,
        )  # fmt: skip
        self._state = SqliteStateStore(str(self._data), clock, from_thread, report)
        self._tools = self._make_tools(settings, journal)
        self._bodies = bodies = SpoolBodies(str(self._folder), str(self._data))
        self._transmitter = SmtpTransmitter(reactor, clock, settings.gateway.hostname, str(self._data))
        pauses = self._make_pauses(journal)
        self._sources = RecipientSources(reactor, clock, self._tools.offload, self._health)
        self._peers = PeerLoads(reactor, lambda: self.settings, clock, chance, self._health)
        self._inside = Inside(
            Surroundings(
                clock,
                chance,
                journal,
                self._spool,
                bodies,
                self._transmitter,
                self._tools,
                pauses,
                OwnAddresses(clock),
                self._peers.load,
                archive=FileArchive(lambda: self.settings, self._tools.offload, self._tools.contents),
                hand=self.hand,
                sources=self._sources,
                blocks=self._blocks,
            )
        )
        self._spool.written_late = self._inside.deliveries.deposited
        self._operations = Operations(
            self._spool,
            self._inside.deliveries,
            journal,
            clock,
            settings,
            self._facts,
            {
                "greylist": GreylistOperations(self._state, journal, clock, lambda: self.settings),
                "recipients": RecipientOperations(
                    self._state, self._inside.memory, journal, clock, lambda: self.settings
                ),
                "spool": self._pausing,
                "blocks": BlockOperations(
                    self._kept_blocks, journal, clock, self._inside.door.forget, self._blocks
                ),
                "connections": ConnectionOperations(self._factory, self.number, journal, clock),
                "lists": ListOperations(self._lists, journal, clock, lambda: self.settings),
            },
            self._inside.is_paused,
            notices=self._inside.deliveries.notices,
            released=ReleasedMail(
                self._spool, self._tools.contents, self._offload, journal, clock, lambda: self.settings
            ),
        )
        self._control = ControlSocket(self._data, self._operations, reactor, self.control_name, self.asked_for)
        self._control.startService()
        self._console.start(Facts(self._operations.status, self._cannot_keep), journal)
        # Work on passwords is slow, and strangers ask for it: what else needs a thread must not wait behind it.
        self._passwords = ThreadOffload(from_thread, PASSWORD_THREADS, PASSWORDS_WAITING)
        users = FileUsers(lambda: self.settings.relay.users, self._passwords)
        self._inside.reception.gatekeeper = Gatekeeper(users, self._state, journal, clock)
        self._factory.reception = reception = self._inside.reception
        self._factory.unlimited = lambda ip: (
            reception.plan.lists.whitelisted(ip, "smtp") or reception.plan.lists.bypasses(ip)
        )
        self._make_room(settings)
        self._inside.deliveries.park(self.guilty)
        self._begin_inside()
        self._peers.start()
        self._definitions.look()
        # Without workers nobody else writes to them while we run.
        alone = settings.gateway.workers == 0
        self._lists.start(alone)
        self._kept_blocks.start(alone)
        # What was read at the start mostly stays. Were the collector to go through it again and again, a spool of
        # 100,000 entries would hold up everybody for 0.1 s and more each time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)

    def _begin_inside(self) -> None:
        self._inside.start()

    def _make_pauses(self, journal: Journal) -> Pauses:
        file = PauseFile(str(self._data))
        pauses = Pauses(self._clock, journal, lambda kept: self._offload.run(file.write, kept), file.read())
        self._pausing = PauseOperations(pauses, self._clock, lambda: self.settings)
        return pauses

    def _make_tools(self, settings: Settings, journal: Journal) -> Tools:
        clock, reactor = self._clock, self._reactor
        self._health = ServicesHealth(clock, journal)
        self._resolver = DnsResolver(
            reactor, clock, self._chance, name_servers(settings.dns.servers), settings.dns.timeout, self._health
        )
        self._offload = ThreadOffload(reactor.callFromThread)
        contents = BodyContents(str(self._data))
        # A folder of our own: other workers have programs that run.
        scratch = str(self._data / "scratch" / str(self.number))
        self._programs = Programs(reactor.callFromThread, clock, contents, self._health, scratch)
        scanners = ScanningServices(reactor, clock, self._offload, contents, self._health, self._programs)
        self._definitions = Definitions(
            lambda: chain.from_iterable(
                scanners.clamds(each.options["servers"]) for each in self.settings.checks if each.kind == ClamAV.kind
            ),
            clock,
            self._chance,
            journal,
            self._state,
        )
        self._lists = LiveLists(clock, journal, ListsFile(str(self._data)), self._offload.run)
        self._lists.begin()
        kept = ListsFile(str(self._data), "blocks")
        # What one worker blocks the others refuse a second later.
        self._kept_blocks = LiveLists(clock, journal, kept, self._offload.run, "blocks", look_seconds=1.0)
        self._kept_blocks.begin()
        self._blocks = Blocks(clock, journal, self._kept_blocks)
        return Tools(
            settings,
            clock,
            self._resolver,
            self._state,
            scanners,
            self._offload,
            contents,
            self._health,
            lists=self._lists,
            macros=MacroProcess(),
            vocabulary=MappedVocabulary(str(self._data), clock, self._offload, self._health),
        )

    def _make_room(self, settings: Settings) -> None:
        room, self._bodies.places.most = room_for_strangers(settings)
        self._factory.room = room
        if room < settings.smtp.max_connections:
            fields = {"max_connections": settings.smtp.max_connections, "room": room}
            self._journal.record("few_descriptors", "", fields, level="warning")

    def _take_certificate(self, options: CertificateOptions | None) -> None:
        self._certificate.options = options
        self._factory.tls_options = options

    # --- running ------------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Reads the INI anew and swaps the whole, or keeps the old settings and says why."""
        try:
            settings = load(self._config) if self._config else self.settings
            refuse_fixed(self.settings, settings)
            with contextlib.ExitStack() as undoing:
                options, writer = server_options(settings.tls), line_writer(settings.log)
                undoing.callback(writer.end)
                change = self._sockets.change(listened(settings))
                undoing.callback(self._sockets.undo, change)
                self.swap(settings, options, writer)
                undoing.pop_all()
        except BadSettings as bad:
            problems = [str(problem) for problem in bad.problems]
        except (ValueError, OSError) as trouble:
            problems = [str(trouble)]
        else:
            self._sockets.settle(change)
            fields: dict[str, object] = {"settings": settings.fingerprint}
            if change.opened or change.closing:
                fields["listen"] = self._sockets.shown()
            self._journal.record("reloaded", "", fields)
            return
        self._journal.record(
            "reload_refused", "", {"problems": problems, "kept": self.settings.fingerprint}, level="error"
        )

    def swap(self, settings: Settings, options: CertificateOptions | None, writer: LineWriter) -> None:
        """Goes on by new settings. Raises ValueError when they do not fit together; then nothing has changed, and the
        writer is the caller's still."""
        plan = self._inside.plan(settings)
        self.settings = settings
        self._take_certificate(options)
        self._resolver.configure(name_servers(settings.dns.servers), settings.dns.timeout)
        # Lists that are suspended are asked anew by now.
        self._inside.use(plan)
        self._definitions.look()
        self._sources.reread()
        self._factory.settings = settings
        self._make_room(settings)
        self._operations.settings = settings
        self._transmitter.hostname = settings.gateway.hostname
        self._ledger.configure(settings.log.keep, settings.log.keep_size)
        assert self._log is not None
        self._log.configure(settings.log, writer)

    def _cannot_keep(self) -> str:
        """Why mail could not be taken into the spool now, in a word; empty when it could."""
        return "disk-full" if self._spool.free_octets() < DISK_RESERVE else self._spool.trouble

    def _facts(self) -> Mapping[str, Any]:
        connections = len(self._factory.connections)
        return {
            "workers": [{"worker": str(self.number), "pid": os.getpid(), "connections": connections}],
            "connections": connections,
            "services": self._health.rows(),
            "paused": self._pausing.rows(),
        }

    # --- stopping -----------------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[Any]:
        """In reverse order, each awaited: strangers, then deliveries, then what keeps mail and the reasons for it."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._log is None:
            await self._close_ports()
            return
        self._journal.record(f"{self.about}stopping", "", {})
        stopping = Stopping(self._clock, self._reactor, self._journal, STOP_SECONDS)
        await stopping.ended("ports", self._close_ports())
        await stopping.ended("console", self._console.stop())
        self._peers.stop()
        self._definitions.stop()
        self._lists.stop()
        self._kept_blocks.stop()
        self._inside.hurry()
        await stopping.ended("strangers", self._factory.drain(DRAIN_SECONDS))
        await stopping.ended("control", self._control.stopService())
        # It has a limit of its own, after which it commits what was sent and not answered: that must not be cut off.
        await stopping.ended("deliveries", self._inside.stop(stopping.left))
        self._resolver.close()
        await stopping.ended("passwords", self._passwords.close())
        await stopping.ended("programs", self._programs.close())
        await stopping.ended("offload", self._offload.close())
        await stopping.ended("state", self._state.close())
        await stopping.ended("spool", self._spool.close())
        self._journal.record(f"{self.about}stopped", "", {})
        await stopping.ended("ledger", self._ledger.close())
        globalLogPublisher.removeObserver(self._observer)
        self._log.close()

    def _close_ports(self) -> Deferred[Any]:
        console, self._console_ports = self._console_ports, []
        return DeferredList([self._sockets.close(), stopped(console)])
