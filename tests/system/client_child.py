"""Our SMTP client alone, with a real reactor: ``client_child.py CERTIFICATE``, whom tls = verified trusts.

Each line on stdin is a connection to be made: an object with ``host``, ``terms`` and ``parcels``, keys as the fields of
Host, Terms and Parcel. Each is answered by a line: ``refused`` ``phase`` ``detail``, or ``tls`` ``extensions`` and
``attempts``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as untyped_reactor
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from inboundmx.model.address import Address
from inboundmx.model.custody import Client, Content, Host, Parcel, Terms
from inboundmx.model.message import Body
from inboundmx.net.clock import ReactorClock
from inboundmx.ports import Refused
from inboundmx.smtp.client import SmtpTransmitter

reactor: Any = untyped_reactor


def address(text: str) -> Address | None:
    local, _, domain = text.rpartition("@")
    return Address(local, domain) if text else None


def parcel(told: dict[str, Any]) -> Parcel:
    octets = told.pop("octets").encode()
    recipients = tuple(found for text in told.pop("recipients") if (found := address(text)) is not None)
    client = Client(*told.pop("client")) if told.get("client") else None
    return Parcel(
        "id1",
        address(told.pop("sender")),
        recipients,
        Content(b"", 0, Body(len(octets), octets, None, hashlib.sha256(octets).digest())),
        client=client,
        dsn=tuple((notify, original) for notify, original in told.pop("dsn", [])),
        **told,
    )


async def converse(transmitter: SmtpTransmitter, told: dict[str, Any]) -> dict[str, Any]:
    host, terms = Host(**told["host"]), Terms(**told["terms"])
    try:
        connection: Any = await transmitter.connect(host, terms=terms, seconds=20.0)
    except Refused as refused:
        return {"refused": refused.trouble, "phase": refused.phase, "detail": refused.detail}
    attempts = []
    for one in told["parcels"]:
        attempt = await connection.transmit(parcel(one), answer_seconds=20.0, dot_seconds=20.0).done
        attempts.append(
            {
                "delivered": attempt.delivered,
                "trouble": attempt.trouble,
                "phase": attempt.phase,
                "dsn": attempt.dsn,
                "replies": [str(reply) for _, reply in attempt.replies],
                "usable": connection.usable,
            }
        )
    result = {"tls": connection.tls, "extensions": dict(connection.extensions), "attempts": attempts}
    connection.close()
    await connection.gone
    return result


async def main(certificate: Any) -> None:
    root = ssl.trustRootFromCertificates([certificate])
    transmitter = SmtpTransmitter(reactor, ReactorClock(reactor), "mx.gateway.example", "", root)
    while line := await deferToThread(sys.stdin.readline):
        print(json.dumps(await converse(transmitter, json.loads(line))), flush=True)


trusted = ssl.Certificate.loadPEM(Path(sys.argv[1]).read_bytes())
react(lambda _: Deferred.fromCoroutine(main(trusted)))
