"""The tree of DMARC records as DNS holds it, looked at no further than needed (RFC 9989 4.10).

Knows which records are asked for, how many at most, and which domains are of one organization. Does not know what a
record asks for.
"""

from __future__ import annotations

from inboundmx.checks.dmarc_record import Place, Record, place, record_of, walk
from inboundmx.checks.questions import Questions
from inboundmx.ports import Answer, Clock, Unavailable

# All answers must be there by then; what is not is DNS trouble.
SECONDS = 4.0
# Questions of one message beyond which nobody's organization is looked for any more: RFC 9989 allows eight for each
# name, and mail as people send it needs one or two in all.
QUESTIONS = 40


class Tree:
    """What is known of it, for one message."""

    __slots__ = ("_clock", "_places", "_questions", "_until")

    def __init__(self, questions: Questions, clock: Clock, seconds: float) -> None:
        self._questions = questions
        self._clock = clock
        self._until = clock.monotonic() + seconds
        self._places: dict[str, Place] = {}

    async def policy(self, domain: str) -> Place:
        """Which record holds for the domain; its organization is right only when it has no record of its own. Raises
        Unavailable."""
        await self._ask((domain,))
        own = self._record_at(domain)
        return await self.place(domain) if own is None else Place(domain, domain, own)

    async def place(self, domain: str) -> Place:
        """Where the domain belongs. Raises Unavailable."""
        known = self._places.get(domain)
        if known is None:
            await self._ask((domain,))
            own = self._record_at(domain)
            if own is None or own.suffix != "n":
                await self._ask(walk(domain))
            known = self._places[domain] = place(domain, self._record_at)
        return known

    async def together(self, author: str, other: str) -> bool:
        """Whether both are of one organization. Raises Unavailable."""
        organization = (await self.place(author)).organization
        if other != organization and not other.endswith(f".{organization}"):
            return False
        if self._questions.asked > QUESTIONS:
            return False
        return (await self.place(other)).organization == organization

    async def exists(self, domain: str) -> bool:
        """Whether there is such a name (RFC 8020). Raises Unavailable."""
        below = self._questions.known.get(_question(domain))
        if isinstance(below, Answer) and below.exists:
            return True
        await self._wait([(domain, "A")])
        return self._answer((domain, "A")).exists

    async def _ask(self, names: tuple[str, ...]) -> None:
        await self._wait(list(map(_question, names)))

    async def _wait(self, questions: list[tuple[str, str]]) -> None:
        left = max(0.0, self._until - self._clock.monotonic())
        await self._questions.answers(questions, self._clock, left)

    def _record_at(self, name: str) -> Record | None:
        return record_of(self._answer(_question(name)).rows)

    def _answer(self, question: tuple[str, str]) -> Answer:
        answer = self._questions.known[question]
        if isinstance(answer, Answer):
            return answer
        assert isinstance(answer, Unavailable)
        raise answer


def _question(name: str) -> tuple[str, str]:
    return f"_dmarc.{name}", "TXT"
