"""The supervisor: binds, has workers do the work, and answers the operator.

Knows the sockets, the log, the control socket, the console, and when the INI is read. Does not know mail: it reads
none, and listens to nobody but the operator.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from inboundmx.app.checking import warnings_at_start
from inboundmx.app.control import AlreadyRunning, ControlSocket
from inboundmx.app.crew import Crew, NotTaken
from inboundmx.app.listening import CurrentCertificate, bound, stopped
from inboundmx.app.maillog import FaultObserver, LineWriter, MailLog, close_log, open_log
from inboundmx.app.orders import Outfit
from inboundmx.app.settings import BadSettings, load
from inboundmx.app.sockets import Opened, Sockets, listened
from inboundmx.app.spawning import Cradle, executed
from inboundmx.app.starting import CannotStart, become_user, make_folders, refuse_fixed, shown
from inboundmx.app.view import View
from inboundmx.console.routes import Facts
from inboundmx.model.settings import Settings
from inboundmx.net.clock import ReactorClock
from inboundmx.smtp.tls import Pem, options_of, read_pem

if TYPE_CHECKING:
    from inboundmx.console.server import ConsoleService


class SupervisorService(Service):
    """As ``GatewayService``, with the work done by others. ``cradle``: of a nursery that there is already."""

    name: Any = "inboundmx"

    def __init__(self, settings: Settings, reactor: Any, config: str, cradle: Cradle | None = None) -> None:
        self.settings = settings
        self.failed: list[str] = []
        self._config = config
        self._reactor = reactor
        self._cradle = cradle
        self._clock = ReactorClock(reactor)
        self._data = Path(settings.gateway.data)
        self._certificate = CurrentCertificate()
        self._sockets = Sockets(reactor, Factory(), self._certificate)
        self._console_ports: list[Any] = []
        self._console: ConsoleService | None = None
        self._crew: Crew | None = None
        self._changing = DeferredLock()
        self._asked: set[str] = set()
        self._underway: set[Deferred[Any]] = set()
        self._stopping = False

    # --- starting -----------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        settings = self.settings
        try:
            self._pem: tuple[Pem, ...] = read_pem(settings.tls)
            self._certificate.options = options_of(self._pem, settings.tls)
            self._log_descriptor = open_log(settings.log)
        except (ValueError, OSError) as trouble:
            raise CannotStart([str(trouble)]) from trouble
        make_folders(settings.gateway, range(settings.gateway.workers))
        try:
            self._sockets.open(listened(settings))
            self._leave_to_workers(self._sockets.opened)
            self._console_ports = self._bound_console()
        except CannotStart:
            self._close_ports()
            raise

    def _leave_to_workers(self, opened: Iterable[Opened]) -> None:
        """Whoever comes waits in the socket's queue for one of them."""
        for each in opened:
            each.port.stopReading()
            # A shutdown is of the socket, not of our descriptor: a worker about to accept would trip over it.
            each.port._shouldShutdown = False

    def _bound_console(self) -> list[Any]:
        if not self.settings.console.listen:
            return []
        # Half of twisted.web comes with it.
        from inboundmx.console.server import ConsoleService

        self._console = ConsoleService(lambda: self.settings, self._clock)
        ports: list[Any] = []
        for endpoint in self.settings.console.listen:
            ports += bound(self._reactor, endpoint, self._console.factory, self._certificate)
        return ports

    def startService(self) -> None:
        settings = self.settings
        # So that no line of the log is torn by another process.
        self._lock = os.memfd_create("log-lock", os.MFD_CLOEXEC)
        # Before we are somebody who may not be allowed to: it becomes that user by itself.
        cradle = self._cradle or executed()
        try:
            become_user(settings.gateway.user)
            self._log = MailLog(settings.log, self._clock, self._line_writer(), None)
            self._crew = Crew(self._reactor, self._outfit(), cradle, self._record, self._all_ready, self._give_up)
            self._view = View(self._reactor, self._data, self._crew.rows, lambda: self.settings)
            self._control = ControlSocket(self._data, self._view, self._reactor)
            self._control.startService()
        except (AlreadyRunning, OSError) as trouble:
            self._close_ports()
            raise CannotStart([str(trouble)]) from trouble
        observer: Any = FaultObserver(self._log)
        globalLogPublisher.addObserver(observer)
        self._observer = observer
        if self._console is not None:
            self._console.start(Facts(self._view.status, self._view.trouble, self._view.refresh), self._log)
        begin: Any = super().startService
        begin()
        with contextlib.suppress(ValueError):  # Not the main thread: whoever runs us there has other means.
            for number, work in ((signal.SIGHUP, self.reload), (signal.SIGUSR2, self.roll)):
                signal.signal(number, partial(lambda work, *_: self._reactor.callFromThread(work), work))
        for warning in warnings_at_start(settings):
            self._record("exposed", {"warning": warning}, "warning")
        self._crew.begin()

    def _outfit(self) -> Outfit:
        opened = self._sockets.opened
        return Outfit(
            self.settings,
            self._pem,
            self._log_descriptor,
            self._lock,
            tuple((each.number, each.endpoint) for each in opened),
            tuple(each.port.fileno() for each in opened),
        )

    def _line_writer(self) -> LineWriter:
        """Closes its descriptor in the end; ours is for workers to come."""
        return LineWriter(os.dup(self._log_descriptor) if self._log_descriptor > 2 else 1, self._lock)

    def _record(self, event: str, fields: dict[str, object], level: str = "info") -> None:
        self._log.record(event, "", fields, level=level)

    def _all_ready(self) -> None:
        fields = {
            "listen": self._sockets.shown() + [shown(port.getHost()) for port in self._console_ports],
            "pid": os.getpid(),
            "workers": self.settings.gateway.workers,
            "settings": self.settings.fingerprint,
        }
        self._record("started", fields)

    def _give_up(self, problems: list[str]) -> None:
        """The first start cannot be: as with one process, all of it is off."""
        if not self.failed:
            self.failed = problems
            self._reactor.callWhenRunning(self._reactor.stop)

    # --- changing -----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Reads the INI anew: all workers go on by it, one after the other, or none does."""
        self._once("reload", self._reload)

    def roll(self) -> None:
        """Replaces each worker by a new process, one after the other."""
        assert self._crew is not None
        self._once("roll", self._crew.roll)

    def _once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """After what is being changed already; who asks again before that is asking for the same."""
        if self._stopping or name in self._asked:
            return
        self._asked.add(name)

        async def run() -> None:
            async with self._changing:
                self._asked.discard(name)
                if not self._stopping:
                    await work()

        self._keep(Deferred.fromCoroutine(run()))

    def _keep(self, waiting: Deferred[Any]) -> None:
        def ended(result: Any) -> None:
            self._underway.discard(waiting)
            if isinstance(result, Failure) and not self._stopping:
                what = f"{type(result.value).__name__}: {result.getErrorMessage()}"
                self._record("fault", {"what": what}, "error")

        self._underway.add(waiting)
        waiting.addBoth(ended)

    async def _reload(self) -> None:
        assert self._crew is not None
        try:
            with contextlib.ExitStack() as undoing:
                settings = load(self._config)
                refuse_fixed(self.settings, settings)
                pem = read_pem(settings.tls)
                options = options_of(pem, settings.tls)
                log = open_log(settings.log)
                undoing.callback(close_log, log)
                change = self._sockets.change(listened(settings))
                undoing.callback(self._sockets.undo, change)
                self._leave_to_workers(change.opened)
                old_log = self._log_descriptor
                undoing.callback(self._take, self.settings, self._pem, old_log)
                # From here on whoever is started anew goes by the new ones.
                self._take(settings, pem, log)
                done = await self._crew.equip(self._outfit())
                undoing.pop_all()
        except (BadSettings, NotTaken) as bad:
            self._refused([str(problem) for problem in bad.problems])
            return
        except (ValueError, OSError) as trouble:
            self._refused([str(trouble)])
            return
        close_log(old_log)
        await self._sockets.settle(change)
        self._certificate.options = options
        self._log.configure(settings.log, self._line_writer())
        fields: dict[str, object] = {"settings": settings.fingerprint, "workers": done}
        if change.opened or change.closing:
            fields["listen"] = self._sockets.shown()
        self._record("reloaded", fields)

    def _take(self, settings: Settings, pem: tuple[Pem, ...], log: int) -> None:
        self.settings, self._pem, self._log_descriptor = settings, pem, log

    def _refused(self, problems: list[str]) -> None:
        self._record("reload_refused", {"problems": problems, "kept": self.settings.fingerprint}, "error")

    # --- stopping -----------------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[Any]:
        end: Any = super().stopService
        end()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if self._crew is None:
            await self._close_ports()
            return
        self._record("stopping", {})
        await self._close_ports()
        if self._console is not None:
            await self._console.stop()
        for underway in tuple(self._underway):
            underway.cancel()
        await self._crew.stop()
        await self._control.stopService()
        self._record("stopped", {})
        globalLogPublisher.removeObserver(self._observer)
        self._log.close()

    def _close_ports(self) -> Deferred[Any]:
        console, self._console_ports = self._console_ports, []
        return DeferredList([self._sockets.close(), stopped(console)])
