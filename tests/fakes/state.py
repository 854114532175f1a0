"""A state store in memory that passes the contract suite, and fails on demand."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.ports import Clock, Fact, Unavailable


class FakeStateStore:
    """``failure``: what reading raises while it is set. ``puts`` counts what was written."""

    def __init__(self, clock: Clock) -> None:
        self.failure: Unavailable | None = None
        self.puts = 0
        self._clock = clock
        self._facts: dict[tuple[str, str], Fact] = {}

    async def get(self, space: str, key: str) -> Fact | None:
        if self.failure is not None:
            raise self.failure
        fact = self._facts.get((space, key))
        return fact if fact is not None and fact.expires_at > self._clock.now() else None

    def put(self, space: str, key: str, fact: Fact) -> None:
        self.puts += 1
        self._facts[space, key] = fact

    def add(self, space: str, key: str, amount: float, window_seconds: float) -> float:
        if self.failure is not None:
            raise self.failure
        now, fact = self._clock.now(), self._facts.get((space, key))
        if fact is None or not now < fact.expires_at <= now + window_seconds + 1.0:
            fact = Fact((0.0,), now, now + window_seconds)
        self._facts[space, key] = fact = fact._replace(values=(fact.values[0] + amount,))
        return fact.values[0]

    def forget(self, space: str, *matching: str) -> Deferred[int]:
        if self.failure is not None:
            return fail(self.failure)
        gone = [name for name in self._facts if name[0] == space and any(text in name[1] for text in matching)]
        for name in gone:
            del self._facts[name]
        return succeed(len(gone))

    def facts(
        self, space: str, matching: str, limit: int, numbers: int | None = None
    ) -> Deferred[Sequence[tuple[str, Fact]]]:
        if self.failure is not None:
            return fail(self.failure)
        now = self._clock.now()
        found = [
            (key, fact)
            for (kept_in, key), fact in self._facts.items()
            if kept_in == space and matching in key and fact.expires_at > now
            if numbers is None or len(fact.values) == numbers
        ]
        return succeed(sorted(found, key=lambda pair: (-pair[1].written_at, pair[0]))[:limit])
