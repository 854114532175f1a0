"""The supervisor: binds, starts the workers, starts them again, replaces them, and ends them.

Knows how many there are to be and how each is doing. Does not know mail: it reads none, and listens to nobody but the
operator. Loads as little as it can, for it is one process more.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from inboundmx.app.channel import Said, sealed
from inboundmx.app.checking import warnings_at_start
from inboundmx.app.control import AlreadyRunning, ControlSocket
from inboundmx.app.listening import CurrentCertificate, bound, stopped
from inboundmx.app.maillog import FaultObserver, LineWriter, MailLog, open_log
from inboundmx.app.orders import Orders
from inboundmx.app.places import Life, Place
from inboundmx.app.respawning import Backoff
from inboundmx.app.settings import BadSettings, load
from inboundmx.app.spawning import Cradle, Nursery, executed
from inboundmx.app.starting import CannotStart, become_user, make_folders, refuse_fixed, shown
from inboundmx.app.view import View
from inboundmx.console.routes import Facts
from inboundmx.model.settings import Settings
from inboundmx.net.clock import ReactorClock
from inboundmx.smtp.tls import Pem, options_of, read_pem

if TYPE_CHECKING:
    from inboundmx.console.server import ConsoleService

# A stop takes ten seconds at most; a worker that is not done by then loses nothing but time.
STOP_SECONDS = 10.0
# For a new worker to load what it takes, to begin, and for one that runs to take new settings.
LOAD_SECONDS = 60.0
BEGIN_SECONDS = 120.0
RELOAD_SECONDS = 20.0
# That are known to be down; of more each worker finds out by itself.
HOSTS = 500


class SupervisorService(Service):
    """As ``GatewayService``, with the work done by others."""

    name: Any = "inboundmx"

    def __init__(self, settings: Settings, reactor: Any, config: str, cradle: Cradle | None = None) -> None:
        self.settings = settings
        self.failed: list[str] = []
        self._config = config
        self._reactor = reactor
        self._cradle = cradle
        self._nursery: Nursery | None = None
        self._nurseries = Backoff()
        self._nursery_timer: Any = None
        self._nursery_since = reactor.seconds()
        self._clock = ReactorClock(reactor)
        self._data = Path(settings.gateway.data)
        self._places = [Place(number) for number in range(settings.gateway.workers)]
        # The endpoint of each, and the port that holds its socket.
        self._ports: list[tuple[str, Any]] = []
        self._console_ports: list[Any] = []
        self._certificate = CurrentCertificate()
        self._console: ConsoleService | None = None
        self._changing = DeferredLock()
        self._asked: set[str] = set()
        # Hosts that are down: whose word that is, and what he said.
        self._down: dict[str, tuple[Place, Said]] = {}
        self._underway: set[Deferred[Any]] = set()
        self._stopping = False
        self._was_ready = False
        self._log: MailLog | None = None

    # --- starting -----------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        settings = self.settings
        try:
            self._pem: Pem | None = read_pem(settings.tls)
            self._certificate.options = options_of(self._pem, settings.tls)
            self._log_descriptor = open_log(settings.log)
        except (ValueError, OSError) as trouble:
            raise CannotStart([str(trouble)]) from trouble
        make_folders(settings.gateway, range(len(self._places)))
        try:
            for endpoint in settings.gateway.listen:
                for port in bound(self._reactor, endpoint, Factory(), self._certificate):
                    # Whoever comes waits in the socket's queue for a worker.
                    port.stopReading()
                    self._ports.append((endpoint, port))
            self._console_ports = self._bound_console()
        except CannotStart:
            self._close_ports()
            raise

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
        self._lock = os.memfd_create("log-lock", os.MFD_CLOEXEC)
        cradle, self._cradle = self._cradle, None
        nursery = self._nursery = self._begun(cradle or executed())
        nursery.become(settings.gateway.user)
        try:
            become_user(settings.gateway.user)
            self._log = MailLog(settings.log, self._clock, self._line_writer(), None)
            self._view = View(self._reactor, self._data, self._rows, lambda: self.settings)
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
        for place in self._places:
            self._start(place)

    def _line_writer(self) -> LineWriter:
        """Closes its descriptor in the end; ours is for workers to come."""
        return LineWriter(os.dup(self._log_descriptor) if self._log_descriptor > 2 else 1, self._lock)

    def _record(self, event: str, fields: dict[str, object], level: str = "info") -> None:
        assert self._log is not None
        self._log.record(event, "", fields, level=level)

    def _rows(self) -> list[dict[str, Any]]:
        return [place.row(self._reactor.seconds()) for place in self._places]

    # --- one worker ---------------------------------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        """A new process, which begins as soon as it can."""
        place.timer = None
        life = place.life = self._new(place)
        life.tell({"do": "begin"})

    def _new(self, place: Place) -> Life:
        """A process that loads what it takes and waits to be told that it may begin."""
        assert self._nursery is not None
        life = Life(self._reactor, self._nursery, partial(self._heard, place))
        orders = sealed(self._orders(place))
        listening = [port.fileno() for _, port in self._ports]
        try:
            life.tell({"do": "load"}, [orders, self._log_descriptor, self._lock, life.notes, *listening])
        finally:
            os.close(orders)
        life.gone.addCallback(partial(self._gone, place, life))
        return life

    def _nursery_lost(self) -> None:
        wait = self._nurseries.died(self._reactor.seconds() - self._nursery_since)
        self._record("nursery_died", {"restart_in_seconds": wait}, "error")
        self._nursery_timer = self._reactor.callLater(wait, self._renew_nursery)

    def _renew_nursery(self) -> None:
        self._nursery_since = self._reactor.seconds()
        self._nursery = self._begun(executed())

    def _begun(self, cradle: Cradle) -> Nursery:
        nursery = Nursery(self._reactor, cradle)
        nursery.lost = self._nursery_lost
        return nursery

    def _orders(self, place: Place) -> Orders:
        listen = tuple(endpoint for endpoint, _ in self._ports)
        return Orders(place.number, len(self._places), os.getpid(), self.settings, self._pem, listen, place.guilty)

    def _heard(self, place: Place, life: Life, said: Said) -> None:
        if "failed" in said and not self._was_ready:
            self._give_up([str(problem) for problem in said["failed"]])
        elif "failed" in said:
            self._record("worker_failed", {"worker": place.number, "problems": said["failed"]}, "error")
        elif "ready" in said:
            life.is_ready = True
            place.guilty = frozenset()
            for other, told in tuple(self._down.values()):
                if other is not place:
                    life.tell(told)
            self._perhaps_all_ready()
        elif "host" in said:
            self._spread(place, said)
        for name in said:
            life.answered("reloaded" if name == "refused" else name, said)

    def _spread(self, place: Place, said: Said) -> None:
        """What one worker finds of a host is for all."""
        host = said["host"]
        if not said["trouble"]:
            self._down.pop(host, None)
        elif len(self._down) < HOSTS:
            self._down.setdefault(host, (place, said))
        for other in self._places:
            if other is not place and other.life is not None and other.life.is_ready:
                other.life.tell(said)

    def _perhaps_all_ready(self) -> None:
        if self._was_ready or not all(place.life is not None and place.life.is_ready for place in self._places):
            return
        self._was_ready = True
        self._record(
            "started",
            {
                "listen": [shown(port.getHost()) for _, port in self._ports] + [
                    shown(port.getHost()) for port in self._console_ports
                ],
                "pid": os.getpid(),
                "workers": len(self._places),
                "settings": self.settings.fingerprint,
            },
        )  # fmt: skip

    def _give_up(self, problems: list[str]) -> None:
        """The first start cannot be: as with one process, all of it is off."""
        if not self.failed:
            self.failed = problems
            self._reactor.callWhenRunning(self._reactor.stop)

    def _gone(self, place: Place, life: Life, status: int) -> int:
        in_hand = life.in_hand()
        if place.life is life:
            place.life = None
            for host in [host for host, (teller, _) in self._down.items() if teller is place]:
                # Nobody probes it any more: the others shall look for themselves.
                self._spread(place, {"host": host, "trouble": "", "detail": ""})
        if self._stopping or life.leaving or self.failed:
            return status
        lived = self._reactor.seconds() - life.started_at
        wait = place.backoff.died(lived)
        if status:
            place.guilty |= place.suspects.crashed(in_hand)
        place.restarts += 1
        fields: dict[str, object] = {
            "worker": place.number,
            "pid": life.pid,
            "how": f"signal {-status}" if status < 0 else f"exit status {status}",
            "lived_seconds": round(lived, 3),
            "in_hand": sorted(in_hand)[:20],
            "restart_in_seconds": wait,
        }
        self._record("worker_died", fields, "error")
        if place.life is None:
            place.timer = self._reactor.callLater(wait, self._start, place)
        return status

    # --- changing -----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Reads the INI anew: all workers go on by it, one after the other, or none does."""
        self._once("reload", self._reload)

    def roll(self) -> None:
        """Replaces each worker by a new process, one after the other."""
        self._once("roll", self._roll)

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
        try:
            settings = load(self._config)
            refuse_fixed(self.settings, settings)
            pem = read_pem(settings.tls)
            options = options_of(pem, settings.tls)
            log = open_log(settings.log)
        except BadSettings as bad:
            self._refused([str(problem) for problem in bad.problems])
            return
        except (ValueError, OSError) as trouble:
            self._refused([str(trouble)])
            return
        before = self.settings, self._pem
        # From here on whoever is started anew goes by the new ones.
        self.settings, self._pem = settings, pem
        done: list[int] = []
        for place in self._places:
            life = place.life
            if life is None or not life.is_ready:
                continue
            said = await self._reloaded(place, life, log)
            if said is not None and "refused" in said and not done:
                self.settings, self._pem = before
                if log > 2:
                    os.close(log)
                self._refused([str(problem) for problem in said["refused"]])
                return
            if said is None or "refused" in said:
                why = ["it did not answer"] if said is None else said["refused"]
                self._record("worker_not_reloaded", {"worker": place.number, "problems": why}, "error")
                # A new one has them from the beginning.
                life.kill()
                continue
            done.append(place.number)
        old, self._log_descriptor = self._log_descriptor, log
        if old > 2:
            os.close(old)
        self._certificate.options = options
        assert self._log is not None
        self._log.configure(settings.log, self._line_writer())
        self._record("reloaded", {"settings": settings.fingerprint, "workers": done})

    async def _reloaded(self, place: Place, life: Life, log: int) -> Said | None:
        orders = sealed(self._orders(place))
        answer = life.answer("reloaded")
        try:
            life.tell({"do": "reload"}, [orders, log])
        finally:
            os.close(orders)
        said: Said | None = await self._within(answer, RELOAD_SECONDS)
        return said

    def _refused(self, problems: list[str]) -> None:
        self._record("reload_refused", {"problems": problems, "kept": self.settings.fingerprint}, "error")

    async def _roll(self) -> None:
        for place in self._places:
            old = place.life
            if old is None or not old.is_ready or self._stopping:
                # It is being started anew as it is.
                continue
            fresh = self._new(place)
            if await self._within(fresh.loaded, LOAD_SECONDS) is None:
                fresh.leaving = True
                fresh.kill()
                self._record("worker_not_replaced", {"worker": place.number, "pid": old.pid}, "error")
                return
            if place.life is not old:
                # It died meanwhile, and whoever came after it is as good as new.
                fresh.leaving = True
                fresh.kill()
                continue
            # It takes over the spool as soon as the other lets go of it. Until then, and a moment longer, whoever
            # comes is taken by other workers, or waits in the sockets' queues.
            await self._end(old)
            place.life = fresh
            fresh.started_at = self._reactor.seconds()
            fresh.tell({"do": "begin"})
            if await self._within(fresh.ready, BEGIN_SECONDS) is None:
                fresh.kill()
                self._record("worker_not_replaced", {"worker": place.number}, "error")
                return
            self._record("worker_replaced", {"worker": place.number, "pid": fresh.pid})

    async def _within(self, waiting: Deferred[Any], seconds: float) -> Any:
        """What it fires with; None when it has not so soon. It goes on waiting then."""
        done: Deferred[Any] = Deferred()

        def fired(result: Any) -> Any:
            if not done.called:
                done.callback(result)
            return result

        timer = self._reactor.callLater(seconds, fired, None)
        waiting.addCallback(fired)
        result = await done
        if timer.active():
            timer.cancel()
        return result

    # --- stopping -----------------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[Any]:
        end: Any = super().stopService
        end()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if self._log is None:
            await self._close_ports()
            return
        self._record("stopping", {})
        await self._close_ports()
        if self._console is not None:
            await self._console.stop()
        waiting = []
        for place in self._places:
            if place.timer is not None:
                place.timer.cancel()
            if place.life is not None:
                waiting.append(Deferred.fromCoroutine(self._end(place.life)))
        for underway in tuple(self._underway):
            underway.cancel()
        await DeferredList(waiting)
        if self._nursery_timer is not None and self._nursery_timer.active():
            self._nursery_timer.cancel()
        if self._nursery is not None and self._nursery.alive:
            await self._nursery.close()
        await self._control.stopService()
        self._record("stopped", {})
        globalLogPublisher.removeObserver(self._observer)
        self._log.close()

    async def _end(self, life: Life) -> None:
        life.end()
        if await self._within(life.gone, STOP_SECONDS) is None:
            life.kill()
            await life.gone

    def _close_ports(self) -> Deferred[Any]:
        ports = [port for _, port in self._ports] + self._console_ports
        self._ports, self._console_ports = [], []
        return stopped(ports)
