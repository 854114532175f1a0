"""Asks a host whether it would take mail for a recipient, over the connections that deliveries use.

Knows how many questions a host hears at a time, and which host is asked. Does not know what an answer means, nor that
it is remembered.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, DeferredSemaphore

from inboundmx.delivery.answers import stale, turned_away
from inboundmx.delivery.courier import Courier
from inboundmx.delivery.pool import Kept, Pool
from inboundmx.model.address import Address
from inboundmx.model.custody import Content, DeliveryAttempt, Host, Parcel, Route
from inboundmx.model.message import Body

# Questions that one host hears at a time: mail itself comes first.
AT_ONCE = 4
# For one answer; who asks has a limit of its own for the whole.
ANSWER_SECONDS = 10.0
HOSTS = 1000

_NOTHING = Content(b"", 0, Body(0, b"", None, b""))


class Asking:
    """Implements ports.Primaries."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._turns: dict[Host, DeferredSemaphore] = {}

    def down(self, route: Route) -> bool:
        return self._courier.down(route)

    async def ask(self, recipient: Address, route: Route) -> DeliveryAttempt | None:
        for way in route.ways():
            for host in way.hosts:
                pool = self._courier.pool(host, way.terms)
                if pool.down:
                    continue
                turns = self._turns_of(host)
                await turns.acquire()
                try:
                    attempt = await self._asked(recipient, pool)
                finally:
                    turns.release()
                if attempt is not None:
                    return attempt
        return None

    def _turns_of(self, host: Host) -> DeferredSemaphore:
        turns = self._turns.get(host)
        if turns is None:
            if len(self._turns) >= HOSTS:
                self._turns = {host: turns for host, turns in self._turns.items() if turns.tokens < turns.limit}
            turns = self._turns[host] = DeferredSemaphore(AT_ONCE)
        return turns

    async def _asked(self, recipient: Address, pool: Pool) -> DeliveryAttempt | None:
        """None: this host is not there, or talks to nobody more just now."""
        while True:
            kept = pool.take()
            if kept is None:
                waiting = pool.join()
                got = None if waiting is None else await waiting
                if got is None:
                    # Live mail keeps the host busy: after it, like what the spool holds.
                    got = await pool.wait()
                if not isinstance(got, Kept):
                    return None
                kept = got
            reused = kept.messages > 0
            attempt = await self._put(recipient, pool, kept)
            if reused and stale(attempt):
                continue
            away = turned_away(attempt)
            if away is None:
                return attempt
            if not reused:
                pool.refused(away)
            return None

    async def _put(self, recipient: Address, pool: Pool, kept: Kept) -> DeliveryAttempt:
        """Whether it is us who are refused is for mail to find out: an answer to a question is no word about it."""
        parcel = Parcel("", None, (recipient,), _NOTHING, utf8=not recipient.ascii, question=True)
        transmission = kept.connection.transmit(parcel, answer_seconds=ANSWER_SECONDS, dot_seconds=ANSWER_SECONDS)
        try:
            attempt = await transmission.done
        finally:
            pool.give_back(kept, None)
        if attempt.trouble == "abandoned":
            # Whoever asked does not wait any more: nothing follows from it.
            raise CancelledError
        return attempt
