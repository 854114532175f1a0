"""``ports.Journal`` that remembers."""

from __future__ import annotations


class FakeJournal:
    """``events``: each with its id, fields and level."""

    def __init__(self) -> None:
        self.events = []

    def record(self, event, id, fields, *, level="info"):
        self.events.append((event, id, dict(fields), level))

    def named(self, *names):
        return [(event, id) for event, id, _, _ in self.events if event in names]
