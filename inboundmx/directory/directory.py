"""Whether a recipient exists, as the sources that its domain names say, in their order.

Knows which source is asked when, and what several of them say together. Does not know how any of them is reached, nor
what becomes of mail for whoever exists or not.
"""

from __future__ import annotations

from inboundmx.directory.callouts import Callouts
from inboundmx.directory.memory import Memo, Memory
from inboundmx.model.address import Address
from inboundmx.model.settings import DomainSettings
from inboundmx.ports import Clock, Known, Sources, Unavailable

_KEPT = frozenset({"learned", "callout"})
_UNHEARD = Known("unasked", "nothing is known of it yet")
# Which of several words holds: whoever might still say yes is not overruled by who says no.
_WEIGHT = {"unasked": 0, "unknown": 1, "unreachable": 2, "undetermined": 3}


class RecipientDirectory:
    """Implements ports.Directory.

    The first source that says *exists* decides, and so does what the primary itself denied within ten minutes. What
    one list does not hold another may: *unknown* it is when nobody is left who might say otherwise."""

    def __init__(self, memory: Memory, callouts: Callouts, sources: Sources | None, clock: Clock) -> None:
        self._memory = memory
        self._callouts = callouts
        self._sources = sources
        self._clock = clock

    async def who(self, address: Address, domain: DomainSettings) -> Known:
        said = _UNHEARD
        memo: Memo | None = None
        recalled = False
        for source in domain.recipients:
            if source in _KEPT:
                if not recalled:
                    recalled = True
                    memo = await self._recalled(address, domain)
                    if memo is not None and memo.fresh(self._clock.now()):
                        return self._told(memo)
                if source == "learned":
                    known = _UNHEARD
                    if len(domain.recipients) == 1 and (away := await self._callouts.away(domain)):
                        known = Known("unreachable", away)
                else:
                    known = await self._callouts.ask(address, domain)
            else:
                known = await self._listed(source, address, domain)
            if known.word == "exists":
                return known
            if _WEIGHT[known.word] > _WEIGHT[said.word]:
                said = known
        if said.word == "unreachable" and memo is not None:
            # It was denied, and nobody can say whether that still holds: not to be promised anything.
            return Known("undetermined", f"{self._told(memo).detail}; now {said.detail}")
        return said

    async def _recalled(self, address: Address, domain: DomainSettings) -> Memo | None:
        memo = await self._memory.recall(address)
        if memo is not None and "learned" not in domain.recipients and memo.source not in ("callout", "import"):
            return None
        return memo

    def _told(self, memo: Memo) -> Known:
        minutes = max(0, int((self._clock.now() - memo.heard_at) / 60))
        detail = f"by {memo.source} {minutes} min ago, confidence {memo.confidence:g}"
        return Known("exists" if memo.exists else "unknown", detail)

    async def _listed(self, source: str, address: Address, domain: DomainSettings) -> Known:
        if self._sources is None:
            return Known("unreachable", "there is nobody to ask")
        try:
            held = await self._sources.holds(source, address, domain)
        except Unavailable as trouble:
            return Known("unreachable", trouble.reason)
        return Known("exists" if held else "unknown", f"{'in' if held else 'not in'} {source}")
