"""The workers as processes: begun, begun anew when they die or hang, told of new settings, replaced, and ended.

Knows how many there are to be and how each is doing. Does not know where settings come from, nor what becomes of mail.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from inboundmx.app.channel import Said, sealed
from inboundmx.app.hearsay import Hearsay
from inboundmx.app.nurseries import Nurseries
from inboundmx.app.orders import Orders, Outfit
from inboundmx.app.places import Life, Place
from inboundmx.app.spawning import Cradle
from inboundmx.app.watching import ABORT_SECONDS, look_seconds

# A stop takes ten seconds at most; a worker that is not done by then loses nothing but time.
STOP_SECONDS = 10.0
# For a new worker to load what it takes, to begin, and for one that runs to take new settings.
LOAD_SECONDS = 60.0
BEGIN_SECONDS = 120.0
RELOAD_SECONDS = 20.0

Record = Callable[..., None]


class NotTaken(Exception):
    """A worker has refused new settings, and all go on by the old ones. ``problems``: sentences."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Crew:
    """``outfit`` is what whoever is begun from now on is given. ``record`` as ``Supervisor.record``; ``all_ready`` is
    told once that the first of all workers are; ``failed`` gets sentences instead when one of them cannot."""

    def __init__(
        self,
        reactor: Any,
        outfit: Outfit,
        cradle: Cradle,
        record: Record,
        all_ready: Callable[[], object],
        failed: Callable[[list[str]], object],
    ) -> None:
        self.outfit = outfit
        self.places = [Place(number) for number in range(outfit.settings.gateway.workers)]
        self._reactor = reactor
        self._record = record
        self._all_ready = all_ready
        self._failed = failed
        self._hearsay = Hearsay(self.places)
        # Those that take a place, and those that are to.
        self._lives: set[Life] = set()
        self._was_ready = self._gave_up = self._stopping = False
        self._nurseries = Nurseries(reactor, cradle, self._nursery_died)
        self._nurseries.current.become(outfit.settings.gateway.user)

    def begin(self) -> None:
        self._look_timer = self._reactor.callLater(0.0, self._look)
        for place in self.places:
            self._start(place)

    def rows(self) -> list[dict[str, Any]]:
        return [place.row(self._reactor.seconds()) for place in self.places]

    # --- one worker ---------------------------------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        """A new process, which begins as soon as it can."""
        place.timer = None
        life = place.life = self._new(place)
        life.tell({"do": "begin"})

    def _new(self, place: Place) -> Life:
        """A process that loads what it takes and waits to be told that it may begin."""
        life = Life(self._reactor, self._nurseries.current, partial(self._heard, place))
        self._lives.add(life)
        orders = sealed(self._orders(place))
        outfit = self.outfit
        try:
            life.tell({"do": "load"}, [orders, outfit.log, outfit.lock, life.notes, *outfit.sockets])
        finally:
            os.close(orders)
        life.gone.addCallback(partial(self._gone, place, life))
        return life

    def _orders(self, place: Place) -> Orders:
        outfit = self.outfit
        return Orders(
            place.number, len(self.places), os.getpid(), outfit.settings, outfit.pem, outfit.listen, place.guilty
        )

    def _heard(self, place: Place, life: Life, said: Said) -> None:
        if "failed" in said and not self._was_ready:
            self._gave_up = True
            self._failed([str(problem) for problem in said["failed"]])
        elif "failed" in said:
            self._record("worker_failed", {"worker": place.number, "problems": said["failed"]}, "error")
        elif "ready" in said:
            life.is_ready = True
            place.guilty = frozenset()
            self._hearsay.pass_on(place, life)
            self._perhaps_all_ready()
        elif "host" in said:
            self._hearsay.said(place, said)
        for name in said:
            life.answered("reloaded" if name == "refused" else name, said)

    def _perhaps_all_ready(self) -> None:
        if not self._was_ready and all(place.life is not None and place.life.is_ready for place in self.places):
            self._was_ready = True
            self._all_ready()

    def _gone(self, place: Place, life: Life, status: int) -> int:
        self._lives.discard(life)
        had_its_place = place.life is life
        if had_its_place:
            place.life = None
            self._hearsay.forget(place)
        if self._stopping or life.leaving or self._gave_up:
            return status
        in_hand = life.in_hand()
        fields: dict[str, object] = {
            "worker": place.number,
            "pid": life.pid,
            "how": f"signal {-status}" if status < 0 else f"exit status {status}",
            "lived_seconds": round(self._reactor.seconds() - life.started_at, 3),
            "in_hand": sorted(in_hand)[:20],
        }
        if life.frames:
            fields["at"] = life.frames
        if had_its_place:
            fields["restart_in_seconds"] = wait = place.backoff.died(self._reactor.seconds() - life.started_at)
            if status:
                place.guilty |= place.suspects.crashed(in_hand)
            place.restarts += 1
            place.timer = self._reactor.callLater(wait, self._start, place)
        self._record("worker_died", fields, "error")
        return status

    def _nursery_died(self, wait: float) -> None:
        self._record("nursery_died", {"restart_in_seconds": wait}, "error")

    def _look(self) -> None:
        """Ends who hangs."""
        hung_after = self.outfit.settings.gateway.hung_after
        self._look_timer = self._reactor.callLater(look_seconds(hung_after), self._look)
        for place in self.places:
            life = place.life
            if hung_after and life is not None and life.is_ready and not life.leaving and life.hangs():
                fields: dict[str, object] = {
                    "worker": place.number,
                    "pid": life.pid,
                    "hung_after": hung_after,
                    "in_hand": sorted(life.in_hand())[:20],
                }
                self._record("worker_hangs", fields, "error")
                life.abort()
                self._reactor.callLater(ABORT_SECONDS, life.kill)

    # --- changing -----------------------------------------------------------------------------------------------------

    async def equip(self, outfit: Outfit) -> list[int]:
        """All go on by new settings, one after the other; the numbers of those who do at once. Raises NotTaken when the
        first that is asked refuses: then none does. Who refuses later is started anew."""
        before, self.outfit = self.outfit, outfit
        done: list[int] = []
        for place in self.places:
            if place.life is not None and not place.life.is_ready:
                # It may have been given the old one.
                await self._within(place.life.ready, BEGIN_SECONDS)
            life = place.life
            if life is None or not life.is_ready:
                continue
            said = await self._told(place, life)
            if said is not None and "refused" in said and not done:
                self.outfit = before
                raise NotTaken([str(problem) for problem in said["refused"]])
            if said is None or "refused" in said:
                why = ["it did not answer"] if said is None else said["refused"]
                self._record("worker_not_reloaded", {"worker": place.number, "problems": why}, "error")
                # A new one has them from the beginning.
                life.kill()
                continue
            done.append(place.number)
        return done

    async def _told(self, place: Place, life: Life) -> Said | None:
        orders = sealed(self._orders(place))
        answer = life.answer("reloaded")
        try:
            life.tell({"do": "reload"}, [orders, self.outfit.log, *self.outfit.sockets])
        finally:
            os.close(orders)
        said: Said | None = await self._within(answer, RELOAD_SECONDS)
        return said

    async def roll(self) -> None:
        """Replaces each worker by a new process, one after the other."""
        for place in self.places:
            old = place.life
            if old is None or not old.is_ready:
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
            if fresh.is_gone:
                self._start(place)
                continue
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
        try:
            return await done
        finally:
            if timer.active():
                timer.cancel()

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Ends all of them, those that have no place yet as well."""
        self._stopping = True
        self._look_timer.cancel()
        for place in self.places:
            if place.timer is not None:
                place.timer.cancel()
        await DeferredList([Deferred.fromCoroutine(self._end(life)) for life in tuple(self._lives)])
        await self._nurseries.close()

    async def _end(self, life: Life) -> None:
        life.end()
        if await self._within(life.gone, STOP_SECONDS) is None:
            life.kill()
            await life.gone
