"""What the product reported while a story was told: an error in its log is a finding, unless the story planted it."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from inboundmx.ports import Unavailable

# A fault that a story plants says so, and is expected to be reported.
PLANTED = "planted"
# The fake of a draft has its own word for it.
FULL = "no room on the disk"

_heard: list[str] = []


class Planted(Unavailable):
    """A fault that a story plants."""

    def __init__(self) -> None:
        super().__init__(PLANTED)


def _observe(event: Any) -> None:
    if event.get("log_level", LogLevel.info) >= LogLevel.error:
        text = formatEvent(event)
        if PLANTED not in text and FULL not in text:
            failure = event.get("log_failure")
            _heard.append(text + (f"\n{failure.getTraceback()}" if failure is not None else ""))


def listen() -> None:
    """Begins a story."""
    if _observe not in globalLogPublisher._observers:
        globalLogPublisher.addObserver(_observe)
    _heard.clear()


def none(*excused: str) -> None:
    """Raises AssertionError with what was reported and holds none of the words."""
    heard = [text for text in _heard if not any(word in text for word in excused)]
    assert not heard, "reported: " + "\n".join(heard)
