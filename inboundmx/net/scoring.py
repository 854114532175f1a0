"""Messages given whole to scorers, which say how much they look like spam.

Knows that a message may be too large, and what an opinion is. Does not know what is said to a server.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from inboundmx.model.message import Body
from inboundmx.net.servers import Server, Servers
from inboundmx.ports import Clock, Contents, Offload, TooLarge

RULES_LIMIT = 200

Opinion = tuple[float, tuple[str, ...]]
"""A score, and the names of the rules that hit: RULES_LIMIT of them at most."""


class Scoring:
    """``max_size`` counts the octets of a message; a larger one is not looked at. ``tries`` is how often servers are
    asked for one message, all within ``seconds``."""

    def __init__(
        self,
        servers: Sequence[Server],
        clock: Clock,
        offload: Offload,
        contents: Contents,
        max_size: int,
        tries: int,
        seconds: float,
    ) -> None:
        self._servers = Servers(servers, clock)
        self._offload = offload
        self._contents = contents
        self._max_size = max_size
        self._tries = tries
        self._seconds = seconds

    async def ask(self, body: Body, talk: Callable[[Server, bytes], Coroutine[Any, Any, Opinion]]) -> Opinion:
        """What ``talk`` gave with the first server that answered, the whole message in hand. Raises Unavailable, and
        TooLarge."""
        if body.size > self._max_size:
            raise TooLarge
        whole = body.head if body.path is None else await self._offload.run(self._contents.whole, body)
        return await self._servers.ask(lambda server: talk(server, whole), self._seconds, self._tries)
