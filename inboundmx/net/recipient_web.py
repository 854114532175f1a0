"""A web service that knows the recipients: a list of them all, or a question about each.

Knows what an answer says, and for how long a list holds. Does not know HTTP (``http_get``), nor what is done while the
service is silent.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from twisted.internet.defer import CancelledError, Deferred

from inboundmx.directory.listed import Listed, listed
from inboundmx.model.address import Address
from inboundmx.net.http_get import LIMIT, NotThere, fetch
from inboundmx.net.recipient_questions import HOLDS_SECONDS, Questions
from inboundmx.net.servers import within
from inboundmx.ports import Clock, Health, Offload, Unavailable

PLACE = "{address}"
# A list is fetched anew long before it does not hold any more, so that a service may be away for a while.
RENEWED_SECONDS = 300.0
AGAIN_SECONDS = 5.0
ANSWER_SECONDS = 8.0
LIST_SECONDS = 30.0
LARGEST_LIST = 16 * 2**20
AT_ONCE = 4

_NO = frozenset({"no", "false", "0", "unknown"})


class RecipientWeb:
    def __init__(
        self, url: str, username: str, password: str, reactor: Any, clock: Clock, offload: Offload, health: Health
    ) -> None:
        split = urlsplit(url)
        self._name = f"recipients {split.scheme}://{split.netloc}"
        self._url = url
        self._who = username, password
        self._reactor = reactor
        self._clock = clock
        self._offload = offload
        self._health = health
        self._questions = Questions(self._name, self._asked, AT_ONCE, clock, health)
        self._listed: Listed | None = None
        self._listed_at = float("-inf")
        self._again_at = float("-inf")
        self._trouble = ""
        # Those who wait for the list that is being fetched.
        self._fetching: list[Deferred[None]] | None = None

    async def holds(self, address: Address) -> bool:
        """Raises Unavailable."""
        if PLACE in self._url:
            return await self._questions.holds(str(address).lower())
        now = self._clock.monotonic()
        if now - self._listed_at >= RENEWED_SECONDS and self._fetching is None and now >= self._again_at:
            # Whoever asks may go meanwhile: the list is for all.
            self._fetching = []
            Deferred.fromCoroutine(self._fetch()).addBoth(self._fetched)
        if now - self._listed_at >= HOLDS_SECONDS:
            self._listed = None
            if self._fetching is not None:
                waiting: Deferred[None] = Deferred()
                self._fetching.append(waiting)
                await waiting
        if self._listed is None:
            raise Unavailable(f"{self._name} {self._trouble}")
        return self._listed.holds(address)

    async def _asked(self, address: str) -> bool:
        try:
            content = await self._got(self._url.replace(PLACE, quote(address, safe="@")), LIMIT, ANSWER_SECONDS)
        except NotThere:
            return False
        word = content[:100].decode("utf-8", "replace").strip().partition("\n")[0]
        return word.strip(' "\r').lower() not in _NO

    async def _fetch(self) -> Listed:
        content = await self._got(self._url, LARGEST_LIST, LIST_SECONDS)
        read: Deferred[Listed] = self._offload.run(listed, content)
        return await read

    def _fetched(self, result: Any) -> None:
        if isinstance(result, Listed):
            self._listed, self._listed_at = result, self._clock.monotonic()
            self._health.noted(self._name, True, "")
        else:
            error = result.value
            self._trouble = getattr(error, "reason", "") or f"{type(error).__name__}: {error}"
            self._again_at = self._clock.monotonic() + AGAIN_SECONDS
            self._health.noted(self._name, False, self._trouble)
        fetching, self._fetching = self._fetching or [], None
        for waiting in fetching:
            if not waiting.called:
                waiting.callback(None)

    async def _got(self, url: str, limit: int, seconds: float) -> bytes:
        asked = Deferred.fromCoroutine(fetch(self._reactor, url, *self._who, seconds=seconds, limit=limit))
        try:
            return await within(self._clock, asked, seconds, "does not answer in time")
        except CancelledError:
            raise Unavailable("is not asked any more") from None
