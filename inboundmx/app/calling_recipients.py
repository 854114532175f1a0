"""Asks the lists of recipients that domains name, for ``inboundmx check``: each once, just as the gateway would. Knows
whom there is to ask, and about whom; nothing is made of what they say.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from inboundmx.model.address import Address
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.net.servers import within
from inboundmx.ports import Clock, Sources, Unavailable

# A list may be long.
SECONDS = 20.0
AT_ONCE = 16
# Who knows recipients without there being a list to ask.
_OTHERS = frozenset({"any", "learned", "callout"})


@dataclass(frozen=True, slots=True)
class RecipientsCall:
    """How one question went: ``answered`` unless there was trouble; ``detail`` is what was said, or the trouble."""

    domain: str
    source: str
    answered: bool
    detail: str


class Unheard:
    """``ports.Health`` where nobody looks at it."""

    def noted(self, service: str, well: bool, detail: str) -> None:
        """What came of it is in the answer."""


def listed(settings: Settings) -> list[tuple[DomainSettings, str]]:
    """Each source, with the first domain that names it; with another name and password it is another."""
    found: dict[tuple[str, str, str], tuple[DomainSettings, str]] = {}
    for domain in settings.sections:
        for source in domain.recipients if domain.enabled else ():
            if source not in _OTHERS:
                found.setdefault((source, domain.recipients_username, domain.recipients_password), (domain, source))
    return list(found.values())


async def ask_all(
    settings: Settings, sources: Sources, clock: Clock, seconds: float = SECONDS
) -> list[RecipientsCall]:
    """In the order of the INI, several at a time, each for at most ``seconds``. They are asked about postmaster, whom
    every domain must have (RFC 5321 4.5.1)."""

    async def ask(domain: DomainSettings, source: str) -> RecipientsCall:
        # Where the section is for any domain, ours is one.
        postmaster = Address("postmaster", settings.gateway.hostname if domain is settings.everything else domain.name)
        asked = Deferred.fromCoroutine(sources.holds(source, postmaster, domain))
        try:
            held = await within(clock, asked, seconds, f"no answer within {seconds:g} s")
        except Unavailable as trouble:
            return RecipientsCall(domain.name, source, False, trouble.reason)
        return RecipientsCall(domain.name, source, True, f"{'knows' if held else 'does not know'} {postmaster}")

    places = DeferredSemaphore(AT_ONCE)
    asking = [
        places.run(lambda each: Deferred.fromCoroutine(ask(*each)), each) for each in listed(settings)
    ]
    return list(await gatherResults(asking, consumeErrors=True))
