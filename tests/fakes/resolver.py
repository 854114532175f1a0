"""ports.Resolver over a zone written as a dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from inboundmx.ports import Answer, Unavailable

# {"a.test": {"A": ["192.0.2.1"], "TXT": ["v=spf1 -all"], "MX": [(10, "mx.a.test")]}, "b.test": Unavailable("silence")}
# A type, too, may be Unavailable. A name that only stands above others exists without data.
Zone = Mapping[str, Mapping[str, Sequence[Any] | Unavailable] | Unavailable]

CHAIN_LIMIT = 8
NOWHERE = Answer((), exists=False)


class FakeResolver:
    """``asked``: every look-up in order. ``holding``: look-ups wait until ``release``; else they answer at once."""

    def __init__(self, zone: Zone | None = None, *, holding: bool = False) -> None:
        self.zone: dict[str, Mapping[str, Sequence[Any] | Unavailable] | Unavailable] = {
            name.lower().removesuffix("."): rows for name, rows in (zone or {}).items()
        }
        self.holding = holding
        self.asked: list[tuple[str, str]] = []
        self._held: list[Deferred[None]] = []

    async def look_up(self, name: str, type: str) -> Answer:
        name = name.lower().removesuffix(".")
        self.asked.append((name, type))
        if self.holding:
            held: Deferred[None] = Deferred()
            self._held.append(held)
            await held
        return self._answer(name, type)

    def release(self) -> None:
        """Answers all that wait."""
        held, self._held = self._held, []
        for each in held:
            each.callback(None)

    def _answer(self, name: str, type: str) -> Answer:
        for _ in range(CHAIN_LIMIT):
            if not name.isascii() or len(name) > 253 or not all(0 < len(label) < 64 for label in name.split(".")):
                return NOWHERE
            known = self.zone.get(name)
            if isinstance(known, Unavailable):
                raise known
            if known is None:
                return Answer(()) if any(each.endswith(f".{name}") for each in self.zone) else NOWHERE
            rows = known.get(type, ())
            if isinstance(rows, Unavailable):
                raise rows
            if rows or type == "CNAME" or "CNAME" not in known:
                return Answer(tuple(_row(type, row) for row in rows))
            alias = known["CNAME"]
            if isinstance(alias, Unavailable):
                raise alias
            name = alias[0].lower()
        raise Unavailable("an endless chain of names")


def _row(type: str, row: Any) -> Any:
    if type == "TXT":
        return row.encode() if isinstance(row, str) else row
    if type == "MX":
        return (row[0], row[1].lower().removesuffix("."))
    return row.lower().removesuffix(".") if isinstance(row, str) else row
