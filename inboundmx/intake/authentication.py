"""Who a client of a submission listener is: exchanges of AUTH, and how often somebody may try.

Knows that failures are counted for an address and for a name, in the store that all workers share, that each makes the
next answer slower, and that beyond a number nobody is heard until the window is over. An address that has authenticated
as a user lately is not stopped by what others tried with that name. Does not know how passwords are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.policy.authenticating import MECHANISMS, NAME_LIMIT, Exchange, Malformed, Step, exchange
from inboundmx.policy.limiting import subject
from inboundmx.ports import Clock, Fact, Journal, StateStore, Unavailable, UserBase
from inboundmx.prompt import passing

SPACE = "authentication"
# Failures within this time are counted together.
WINDOW_SECONDS = 900.0
MOST_OF_ADDRESS = 20
MOST_OF_NAME = 50
# The first failure is answered after so long, each further one after twice as long.
FIRST_SECONDS, LONGEST_SECONDS = 0.5, 8.0
KNOWN_SECONDS = 30 * 86400.0

_PROVED = Reply(235, "2.7.0", "Welcome")
_WRONG = Reply(535, "5.7.8", "Name or password is wrong")
_MALFORMED = Reply(501, "5.5.2", "That is no step of this mechanism")
_TOO_MANY = Reply(421, "4.7.0", "Too many failures from your address, try again later", then_close=True)
_TOO_MANY_OF_NAME = Reply(454, "4.7.0", "Too many failures for this user, try again later")
# Failures that cannot be counted are answered as late as can be, and only one on a connection.
_NOT_COUNTED = Reply(421, "4.7.0", "Nobody can be authenticated now, try again later", then_close=True)
_NOT_NOW = Reply(454, "4.7.0", "Nobody can be authenticated now, try again later")


class Gatekeeper:
    """What the conversations of a process share."""

    def __init__(self, users: UserBase, state: StateStore, journal: Journal, clock: Clock) -> None:
        self.users = users
        self.state = state
        self.journal = journal
        self.clock = clock

    async def failures(self, key: str) -> float:
        fact = await self.state.get(SPACE, key)
        return 0.0 if fact is None else fact.values[0]


class Authentication:
    """Of one connection. ``name`` is who it is, once that is shown."""

    def __init__(self, keeper: Gatekeeper, session: Session) -> None:
        self.name = ""
        self._keeper = keeper
        self._session = session
        self._exchange: Exchange | None = None
        self._mechanism = ""

    async def respond(self, mechanism: str, said: bytes | None) -> Step | Reply:
        """A further step to be taken, or how it ended. ``mechanism`` is empty but where AUTH begins."""
        keeper, address = self._keeper, subject(self._session.peer_ip)
        if mechanism:
            self._mechanism, self._exchange = mechanism, exchange(mechanism)
        under_way = self._exchange
        assert under_way is not None
        try:
            if address and await keeper.failures(f"ip {address}") >= MOST_OF_ADDRESS:
                return self._failed("", _TOO_MANY)
            step: Step = await keeper.users.ask(lambda users: under_way.step(said, users))
            if len(step.name) <= NAME_LIMIT and step.name:
                too_many = await keeper.failures(f"user {step.name}") >= MOST_OF_NAME
                if too_many and await keeper.state.get(SPACE, f"known {address} {step.name}") is None:
                    return self._failed(step.name, _TOO_MANY_OF_NAME)
            if step.challenge is not None:
                return step
            if step.proved:
                return self._proved(step.name, address)
            try:
                seconds = self._counted(step.name, address)
            except Unavailable as trouble:
                await passing(keeper.clock, LONGEST_SECONDS)
                return self._failed(step.name, _NOT_COUNTED, {"trouble": trouble.reason})
            await passing(keeper.clock, seconds)
        except Malformed:
            return self._failed("", _MALFORMED)
        except Unavailable as trouble:
            return self._failed("", _NOT_NOW, {"trouble": trouble.reason})
        return self._failed(step.name, _WRONG)

    def _proved(self, name: str, address: str) -> Reply:
        keeper, now = self._keeper, self._keeper.clock.now()
        self.name, self._exchange = name, None
        keeper.state.put(SPACE, f"known {address} {name}", Fact((now,), now, now + KNOWN_SECONDS))
        keeper.journal.record("authenticated", self._session.id, self._told(name))
        return _PROVED

    def _counted(self, name: str, address: str) -> float:
        """Counts a failure; how long its answer is to wait."""
        state = self._keeper.state
        if name and len(name) <= NAME_LIMIT:
            state.add(SPACE, f"user {name}", 1.0, WINDOW_SECONDS)
        times = state.add(SPACE, f"ip {address}", 1.0, WINDOW_SECONDS) if address else 1.0
        return float(min(FIRST_SECONDS * 2 ** min(times - 1, 16), LONGEST_SECONDS))

    def _failed(self, name: str, reply: Reply, more: Mapping[str, Any] | None = None) -> Reply:
        self._exchange = None
        fields = {**self._told(name), "reply": str(reply), **(more or {})}
        self._keeper.journal.record("authentication_failed", self._session.id, fields, level="warning")
        return Reply(reply.code, reply.enhanced, f"{reply.text} {self._session.id}", reply.then_close)

    def _told(self, name: str) -> dict[str, Any]:
        return {"ip": self._session.peer_ip, "user": name[:NAME_LIMIT], "mechanism": self._mechanism}


def mechanisms(login: bool) -> tuple[str, ...]:
    return MECHANISMS if login else tuple(each for each in MECHANISMS if each != "LOGIN")
