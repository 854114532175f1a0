"""What an operator may ask of deliveries as such: pause them, resume them, and which are paused.

Knows how a pause is asked for and told. Does not know a socket, a file or a terminal: arguments and answers are values
that JSON can write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inboundmx.app import arguments as read
from inboundmx.app.addresses import domain_name
from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.app.selecting import a_label
from inboundmx.app.words import Wrong
from inboundmx.delivery.pausing import Pause, Pauses
from inboundmx.model.settings import Settings
from inboundmx.ports import Clock

# A reason is a line for whoever comes next, not a letter.
REASON_LIMIT = 200


class PauseOperations:
    """The verbs of the noun ``spool`` that are about deliveries and not about entries."""

    def __init__(self, pauses: Pauses, clock: Clock, settings: Callable[[], Settings]) -> None:
        self._pauses = pauses
        self._clock = clock
        self._settings = settings

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> list[Row] | None:
        """The rows of the answer, None when there is no such verb. ``domain`` is left out when all are meant; ``for``
        is a number of seconds. Raises NotUnderstood and Unavailable."""
        if verb == "pauses":
            read.only(arguments, set())
            return self.rows()
        if verb == "pause":
            read.only(arguments, {"domain", "reason", "for"})
            return [await self._pause(arguments, asked_by)]
        if verb == "resume":
            read.only(arguments, {"domain"})
            return [await self._resume(read.text(arguments, "domain"), asked_by)]
        return None

    def rows(self) -> list[Row]:
        """What is paused now, every key always."""
        return [_row(pause) for pause in self._pauses.all()]

    async def _pause(self, arguments: Mapping[str, Any], asked_by: str) -> Row:
        now = self._clock.now()
        name, reason = self._domain(read.text(arguments, "domain")), read.text(arguments, "reason")
        seconds = arguments.get("for")
        if len(reason) > REASON_LIMIT or not reason.isprintable():
            raise NotUnderstood(f"a reason is one line of at most {REASON_LIMIT} characters; nothing was paused")
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
            raise NotUnderstood("for must be more than no time; nothing was paused")
        pause = Pause(name, reason, asked_by, now, None if seconds is None else now + seconds)
        await self._pauses.pause(pause)
        return _row(pause) | {"outcome": "paused"}

    async def _resume(self, domain: str, asked_by: str) -> Row:
        name = a_label(domain.lower().rstrip("."))
        ended = await self._pauses.resume(name, asked_by)
        if ended is not None:
            return _row(ended) | {"outcome": "resumed"}
        return _row(Pause(name, "", asked_by, self._clock.now(), None)) | {"outcome": "skipped"}

    def _domain(self, domain: str) -> str:
        """The name under which its mail is spooled."""
        if not domain:
            return ""
        settings = self._settings()
        name = a_label(domain.lower().rstrip("."))
        if settings.domain(name) is not None:
            return name
        # Mail leaves us for anywhere, or we are backup for whoever names us: any domain may have some.
        if settings.relay.allow or settings.backup.primaries:
            try:
                return domain_name(name)
            except Wrong as wrong:
                raise NotUnderstood(f"{wrong}; nothing was paused") from wrong
        raise NotUnderstood(f"there is no [domain {domain}] in the configuration; nothing was paused")


def _row(pause: Pause) -> Row:
    return {
        "domain": pause.domain or None,
        "reason": pause.reason or None,
        "asked_by": pause.asked_by,
        "since_at": pause.since_at,
        "until_at": pause.until_at,
    }
