"""One worker, forked by the nursery.

Knows its channel: what it is told before it begins, and that it must not outlive the supervisor. Does not know the
other workers, nor how it is replaced.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from inboundmx.app.assemble import GatewayService
from inboundmx.app.channel import DESCRIPTORS, Channel, Said, receive, send, unsealed
from inboundmx.app.control import control_name
from inboundmx.app.in_hand import SharedHand, leave_last_words
from inboundmx.app.maillog import LineWriter
from inboundmx.app.orders import Orders
from inboundmx.app.sharing import shared_out
from inboundmx.app.starting import CannotStart
from inboundmx.app.watching import look_seconds
from inboundmx.ports import Refused
from inboundmx.smtp.tls import options_of
from inboundmx.spool.locking import Locked, take_lock

# A supervisor that is gone may be back soon, and then finds our locks free.
ORPHANED_SECONDS = 0.8
PREDECESSOR_SECONDS = 3.0
DETAIL_LIMIT = 200
_log = Logger()


class WorkerService(GatewayService):
    """A gateway that is one of several. ``log`` is the log's descriptor, ``lock`` that of its lock, ``hand`` that of
    its notes; ``listening`` are bound sockets, one for each of ``orders.listen``."""

    about = "worker_"

    def __init__(
        self, orders: Orders, reactor: Any, end: socket.socket, log: int, lock: int, hand: int, listening: list[int]
    ) -> None:
        super().__init__(shared_out(orders.settings, orders.workers), reactor, None, orders.number)
        self.keep_off = frozenset(map(str, range(orders.workers)))
        # One is enough to look after what workers left that are no more.
        self.adopts = orders.number == 0
        self.control_name = control_name(str(orders.number))
        self.asked_for = orders.supervisor
        self.guilty = orders.guilty
        self.hand = self._notes = SharedHand(hand)
        self._orders = orders
        self._end = end
        self._log_descriptor = log
        self._lock = lock
        self._listening = listening

    def start(self) -> None:
        """Raises CannotStart."""
        orders, log = self._orders, self._log_descriptor
        try:
            self._take_certificate(options_of(orders.pem, orders.settings.tls))
        except ValueError as trouble:
            raise CannotStart([str(trouble)]) from trouble
        self._writer = LineWriter(log, self._lock)
        self._wait_for_our_predecessor()
        self.begin()
        self._inside.courier.spread = self._spread
        try:
            self._sockets.adopt(orders.listen, self._listening)
        except (OSError, ValueError) as trouble:
            raise CannotStart([f"cannot listen: {trouble}"]) from trouble
        self._channel = Channel(self._reactor, self._end, self._heard, self._orphaned, DESCRIPTORS)
        self._journal.record("worker_started", "", {"worker": self.number, "pid": os.getpid()})
        self._beat()
        self.tell({"ready": True})

    def _begin_inside(self) -> None:
        """Once whoever watches over us knows that we are ready: whichever mail we hang at from here on is found out."""
        self._reactor.callWhenRunning(self._begin_or_end)

    def _begin_or_end(self) -> None:
        try:
            self._inside.start()
        except Exception:  # noqa: BLE001 - the log knows it, and another one may fare better
            _log.failure("a worker cannot begin")
            self.failed = ["it cannot begin"]
            self._reactor.stop()

    def _beat(self) -> None:
        """Whoever does not for long hangs."""
        self._notes.beat()
        self._clock.call_later(look_seconds(self.settings.gateway.hung_after), self._beat)

    def _wait_for_our_predecessor(self) -> None:
        """One whose supervisor was killed may live a moment longer."""
        until = time.monotonic() + PREDECESSOR_SECONDS
        while time.monotonic() < until:
            try:
                os.close(take_lock(str(self._folder)))
            except Locked:
                time.sleep(0.02)
            except OSError:
                return
            else:
                return

    def tell(self, said: Said) -> None:
        self._channel.tell(said)

    def _heard(self, said: Said, descriptors: list[int]) -> None:
        if said.get("do") == "reload":
            self._reload(*descriptors)
        elif "host" in said:
            trouble, detail = said["trouble"], f"{said['detail']} (as another worker finds)"
            refused = Refused(trouble, "connect", None, detail) if trouble else None
            self._inside.courier.heard(said["host"], refused)

    def _spread(self, host: str, refused: Refused | None) -> None:
        trouble, detail = ("", "") if refused is None else (refused.trouble, refused.detail[:DETAIL_LIMIT])
        self.tell({"host": host, "trouble": trouble, "detail": detail})

    def _reload(self, orders: int, log: int, *listening: int) -> None:
        told: Orders = unsealed(orders)
        try:
            with contextlib.ExitStack() as undoing:
                writer = LineWriter(log, self._lock)
                undoing.callback(writer.end)
                change = self._sockets.adopt(told.listen, listening)
                undoing.callback(self._sockets.undo, change)
                self.swap(shared_out(told.settings, told.workers), options_of(told.pem, told.settings.tls), writer)
                undoing.pop_all()
        except (ValueError, OSError) as trouble:
            self.tell({"refused": [str(trouble)]})
        else:
            self._sockets.settle(change)
            self.tell({"reloaded": told.settings.fingerprint})

    def _facts(self) -> Mapping[str, Any]:
        facts = dict(super()._facts())
        facts["workers"] = [row | {"trouble": self._cannot_keep()} for row in facts["workers"]]
        return facts

    def _orphaned(self) -> None:
        self._journal.record("supervisor_lost", "", {"worker": self.number, "pid": os.getpid()}, level="error")
        assert self._log is not None
        self._log.flush()
        if self._reactor.running:
            self._reactor.stop()


def main(end: socket.socket) -> int:
    """A worker's life, at the end of its channel; its exit status."""
    _watch(end)
    try:
        said, descriptors = receive(end)
        orders: Orders = unsealed(descriptors[0])
        send(end, {"loaded": True})
        # Perhaps whoever we replace is still at it.
        said, _ = receive(end)
        if said.get("do") != "begin":
            return 1
    except (EOFError, OSError):
        return 1
    from twisted.internet import reactor as installed

    reactor: Any = installed
    log, lock, hand, *listening = descriptors[1:]
    leave_last_words(hand)
    service = WorkerService(orders, reactor, end, log, lock, hand, listening)
    try:
        service.start()
    except CannotStart as trouble:
        send(end, {"failed": trouble.problems})
        return 2
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    return 1 if service.failed else 0


def _watch(end: socket.socket) -> None:
    """Ends us soon after the other side is gone, whatever we are at."""

    def wait() -> None:
        waiting = select.poll()
        # The end of it alone is reported, unasked.
        waiting.register(descriptor, 0)
        waiting.poll()
        time.sleep(ORPHANED_SECONDS)
        os._exit(1)

    # Of its own, for the other is closed in an orderly stop.
    descriptor = os.dup(end.fileno())
    threading.Thread(target=wait, name="supervisor", daemon=True).start()
