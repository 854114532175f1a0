"""What an operator may ask of the connections of strangers that are open now.

Knows how one is told, and that ending it is recorded with who asked for it. Does not know a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inboundmx.app.addresses import networks
from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.app.words import Wrong
from inboundmx.model.ip import ip_of
from inboundmx.ports import Clock, Journal
from inboundmx.smtp.server import SmtpServerFactory


class ConnectionOperations:
    """The noun ``connections`` of ``app.operations``."""

    def __init__(self, factory: SmtpServerFactory, worker: int, journal: Journal, clock: Clock) -> None:
        self._factory = factory
        self._worker = str(worker)
        self._journal = journal
        self._clock = clock

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> list[Row] | None:
        """The rows of the answer, None when there is no such verb. ``end`` takes ``ids``, or an ``address`` or network;
        it tells those that it ended. Raises NotUnderstood."""
        if verb == "list" and not arguments:
            return sorted(self._rows(), key=lambda row: row["since_at"])
        if verb == "end":
            return self._end(arguments, asked_by)
        return None

    def _rows(self) -> list[Row]:
        """Every key always: ``name`` is what the DNS calls the client, confirmed; null when it is not known."""
        return [
            {
                "id": live.session.id,
                "address": live.session.peer_ip,
                "name": live.session.reverse_name or None,
                "helo": live.session.hello or None,
                "tls": live.session.tls or None,
                "user": live.session.authenticated_as or None,
                "since_at": live.session.connected_at,
                "stage": live.stage,
                "messages": live.messages,
                "worker": self._worker,
            }
            for live in self._factory.live()
        ]

    def _end(self, arguments: Mapping[str, Any], asked_by: str) -> list[Row]:
        ids, address = arguments.get("ids") or [], arguments.get("address") or ""
        if set(arguments) - {"ids", "address"} or bool(ids) == bool(address):
            raise NotUnderstood("connections are ended by their ids, or by an address; nothing was done")
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids) or not isinstance(address, str):
            raise NotUnderstood("ids must be a list of words, an address text; nothing was done")
        try:
            blocks = networks(address) if address else []
        except Wrong as wrong:
            raise NotUnderstood(f"{wrong}; nothing was done") from wrong

        def meant(row: Row) -> bool:
            ip = ip_of(row["address"])
            return row["id"] in ids or (ip is not None and any(ip in block for block in blocks))

        ended = [row for row in self._rows() if meant(row)]
        for row in ended:
            self._factory.end(row["id"])
            self._journal.record("connection_ended", row["id"], {"ip": row["address"], "asked_by": asked_by})
        return ended
