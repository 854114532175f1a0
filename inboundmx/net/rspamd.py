"""rspamd, spoken to over HTTP: POST /checkv2, a message and what is known of its client, a score and symbols in answer.

Knows the fields that rspamd reads and what its JSON must look like; that a score is a finite number. Does not know what
a score is worth, nor which server is asked first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from inboundmx.model.message import Body
from inboundmx.net.http_get import Exchange, question
from inboundmx.net.servers import Fault, Server, Servers
from inboundmx.net.spamd import RULES_LIMIT, Opinion
from inboundmx.ports import SPAM_SCORE_LIMIT, Clock, Contents, Offload, TooLarge

ANSWER_LIMIT = 256 * 1024

_SYMBOL = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_WHY = {401: "refuses our password (401)", 403: "refuses our password (403)"}


class RspamdScorer:
    """``ports.MessageScorer``. ``max_size`` counts the octets of a message; a larger one is not looked at. ``tries`` is
    how often servers are asked for one message."""

    def __init__(
        self,
        servers: Sequence[Server],
        clock: Clock,
        offload: Offload,
        contents: Contents,
        max_size: int,
        tries: int,
        seconds: float,
        password: str,
    ) -> None:
        self._servers = Servers(servers, clock)
        self._offload = offload
        self._contents = contents
        self._max_size = max_size
        self._tries = tries
        self._seconds = seconds
        self._password = [("Password", password)] if password else []

    async def score(self, body: Body, facts: Sequence[tuple[str, str]]) -> Opinion:
        if body.size > self._max_size:
            raise TooLarge
        whole = body.head if body.path is None else await self._offload.run(self._contents.whole, body)
        fields = [("Host", "rspamd"), *self._password, *facts, ("Content-Length", str(len(whole)))]
        asked = (question("POST", "/checkv2", fields), whole)
        return await self._servers.ask(
            lambda server: Deferred.fromCoroutine(_ask(server, asked)), self._seconds, self._tries
        )


async def _ask(server: Server, asked: Sequence[bytes]) -> Opinion:
    exchange = Exchange(asked, ANSWER_LIMIT, _WHY)
    await server.connect(exchange)
    try:
        return opinion(await exchange.answer)
    except Fault as fault:
        raise Fault(f"{server.name} {fault.reason}") from None


def opinion(content: bytes) -> Opinion:
    """Its score, and the symbols that hit in the order it names them. Raises Fault."""
    try:
        said = json.loads(content)
        score, symbols = said["score"], said.get("symbols", {})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise Fault("answers no JSON with a score") from None
    # True is a number to Python; nan is not below any limit.
    if type(score) not in (int, float) or not abs(score) <= SPAM_SCORE_LIMIT:
        raise Fault("gives no proper score")
    names = symbols if isinstance(symbols, dict) else ()
    return float(score), tuple(filter(_SYMBOL.fullmatch, names))[:RULES_LIMIT]
