"""rspamd, spoken to over HTTP: POST /checkv2, a message and what is known of its client, a score and symbols in answer.

Knows the fields that rspamd reads and what its JSON must look like; that a score is a finite number. Does not know what
a score is worth, nor which server is asked first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial

from inboundmx.model.message import Body
from inboundmx.net.http_get import Exchange, question
from inboundmx.net.scoring import RULES_LIMIT, Opinion, Scoring
from inboundmx.net.servers import Fault, Server
from inboundmx.ports import SPAM_SCORE_LIMIT

ANSWER_LIMIT = 256 * 1024

_SYMBOL = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_WHY = {401: "refuses our password (401)", 403: "refuses our password (403)"}


class RspamdScorer:
    """``ports.MessageScorer``."""

    def __init__(self, scoring: Scoring, password: str) -> None:
        self._scoring = scoring
        self._password = [("Password", password)] if password else []

    async def score(self, body: Body, facts: Sequence[tuple[str, str]]) -> Opinion:
        fields = [("Host", "rspamd"), *self._password, *facts]
        return await self._scoring.ask(body, partial(_ask, fields))


async def _ask(fields: Sequence[tuple[str, str]], server: Server, whole: bytes) -> Opinion:
    head = question("POST", "/checkv2", [*fields, ("Content-Length", str(len(whole)))])
    exchange = Exchange((head, whole), ANSWER_LIMIT, _WHY)
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
