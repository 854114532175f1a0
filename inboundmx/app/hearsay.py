"""What one worker finds of a host, told to the others: it is down, or up again.

Knows whose word it is. Does not know hosts, nor what a worker makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from inboundmx.app.channel import Said
from inboundmx.app.places import Life, Place

# That are known to be down; of more each worker finds out by itself.
HOSTS = 500


class Hearsay:
    def __init__(self, places: Iterable[Place]) -> None:
        self._places = places
        self._down: dict[str, tuple[Place, Said]] = {}

    def said(self, place: Place, said: Said) -> None:
        """A worker tells of ``host``, whose ``trouble`` is a word, or empty: it is well again."""
        host = said["host"]
        if not said["trouble"]:
            self._down.pop(host, None)
        elif len(self._down) < HOSTS:
            self._down.setdefault(host, (place, said))
        for other in self._places:
            if other is not place and other.life is not None and other.life.is_ready:
                other.life.tell(said)

    def pass_on(self, place: Place, life: Life) -> None:
        """To one who is new."""
        for teller, told in tuple(self._down.values()):
            if teller is not place:
                life.tell(told)

    def forget(self, place: Place) -> None:
        """Nobody probes any more what this one did: the others shall look for themselves."""
        for host in [host for host, (teller, _) in self._down.items() if teller is place]:
            self.said(place, {"host": host, "trouble": "", "detail": ""})
