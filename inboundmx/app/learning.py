"""What the Bayesian filter learns while the gateway runs: mail that an operator released from quarantine is ham.

Knows when that is asked for, and that a release never fails because of it. Does not know words, nor how they are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from inboundmx.checks.bayes import Bayes
from inboundmx.model.custody import Content, State
from inboundmx.model.settings import Settings
from inboundmx.ports import Clock, Contents, Damaged, Journal, Offload, Spool, Unavailable
from inboundmx.storage.bayes import BayesFile, Lesson
from inboundmx.storage.lessons import LARGEST, lesson

# Messages of one request that are learned; nobody looked at more of them before he released them.
MOST_RELEASED = 100


def options_of(settings: Settings) -> Mapping[str, Any] | None:
    """Of the first section that uses bayes; None where there is none."""
    return next((each.options for each in settings.checks if each.kind == Bayes.kind), None)


class ReleasedMail:
    """``settings`` gives those in force. What is released is read before it goes, and learned once it is released."""

    def __init__(
        self, spool: Spool, contents: Contents, offload: Offload, journal: Journal, clock: Clock,
        settings: Callable[[], Settings],
    ) -> None:  # fmt: skip
        self._spool = spool
        self._contents = contents
        self._offload = offload
        self._journal = journal
        self._clock = clock
        self._settings = settings

    async def read(self, ids: Iterable[str]) -> dict[str, Lesson]:
        """By entry: what those named by their ids teach, if releases are to be learned. A query means mail that nobody
        looked at, and teaches nothing."""
        options = options_of(self._settings())
        wanted = frozenset(ids)
        if options is None or not options["learn_released"] or not wanted:
            return {}
        found: dict[str, Content] = {}
        for entry in list(self._spool.entries()):
            if entry.state is State.QUARANTINED and not wanted.isdisjoint((entry.id, entry.message_id)):
                with contextlib.suppress(Damaged, KeyError, Unavailable):
                    found[entry.id] = await self._spool.content(entry.id)
                if len(found) == MOST_RELEASED:
                    break
        try:
            lessons: dict[str, Lesson] = await self._offload.run(self._lessons, found) if found else {}
        except Unavailable as trouble:
            self._journal.record("not_learned", "", {"what": trouble.reason}, level="warning")
            return {}
        return lessons

    async def learn(self, lessons: Mapping[str, Lesson], asked_by: str) -> None:
        """Of these, those that are in quarantine no more."""
        entries = {id: self._spool.entry(id) for id in lessons}
        wanted = [lessons[id] for id, entry in entries.items() if entry is None or entry.state is not State.QUARANTINED]
        if not wanted:
            return
        try:
            learned = await self._offload.run(self._learn, wanted)
        except Unavailable as trouble:
            self._journal.record("not_learned", "", {"what": trouble.reason, "asked_by": asked_by}, level="warning")
        else:
            self._journal.record("learned", "", {"ham": learned, "asked_by": asked_by})

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _lessons(self, found: Mapping[str, Content]) -> dict[str, Lesson]:
        file = BayesFile(self._settings().gateway.data)
        try:
            return {id: lesson(self._octets(content), file.secret) for id, content in found.items()}
        finally:
            file.close()

    def _octets(self, content: Content) -> bytes:
        body = content.body
        if body.path is None:
            return content.prefix + body.head[content.skip :]
        return content.prefix + self._contents.part(body, content.skip, LARGEST)

    def _learn(self, lessons: Sequence[Lesson]) -> int:
        """How many were not known as ham before."""
        settings = self._settings()
        options = options_of(settings)
        file = BayesFile(settings.gateway.data)
        try:
            outcomes = file.learn(lessons, False, self._clock.now())
            if options is not None and file.totals().fresh >= options["messages_for_update"]:
                file.renew(options["max_memory"])
        finally:
            file.close()
        return len(outcomes) - outcomes.count("known")
