"""A primary for tests, run as a child: ``recording_primary.py HOST,PORT FOLDER [CERTIFICATE KEY]`` (then with
STARTTLS; several HOSTs in a row).

aiosmtpd, so that another hand than ours reads the wire. Each accepted message becomes NUMBER.eml (exact octets) and
NUMBER.json (envelope) in FOLDER before 250 is said; FOLDER/script.json says what to answer instead.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import sys
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

LARGEST = 64 * 2**20


class Primary(SMTP):
    # Its own limit is RFC 5321's 1000 octets; what a lenient primary takes must arrive as it was sent.
    line_length_limit = LARGEST
    # The argument of the last RCPT as it was said: aiosmtpd itself decodes what looks like an encoded word.
    said = ""
    # What MAIL and RCPTs of this transaction said behind the address.
    parameters: tuple[str, ...] = ()

    async def smtp_MAIL(self, arg: str | None) -> None:
        self.parameters = (self._behind(arg),)
        await super().smtp_MAIL(self._known(arg))

    async def smtp_RCPT(self, arg: str | None) -> None:
        self.said = arg or ""
        self.parameters += (self._behind(arg),)
        await super().smtp_RCPT(self._known(arg))

    @staticmethod
    def _behind(arg: str | None) -> str:
        return (arg or "").rpartition(">")[2].strip()

    def _known(self, arg: str | None) -> str | None:
        """Without what aiosmtpd does not understand, where the script has offered it."""
        if arg is None or "DSN" not in self.event_handler.offers():
            return arg
        address, _, behind = arg.rpartition(">")
        words = [word for word in behind.split() if word.partition("=")[0] not in ("RET", "ENVID", "NOTIFY", "ORCPT")]
        return " ".join([f"{address}>", *words])


class Recorder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        started = len(list(folder.glob("*.eml")))
        self._numbers = itertools.count(started)

    def _script(self) -> dict[str, Any]:
        script: dict[str, Any] = json.loads((self._folder / "script.json").read_text())
        return script

    def offers(self) -> list[str]:
        offers: list[str] = self._script().get("offers", [])
        return offers

    async def handle_EHLO(self, _: SMTP, session: Session, __: Envelope, name: str, responses: list[str]) -> list[str]:
        session.host_name = name
        return [responses[0], *(f"250-{keyword}" for keyword in self.offers()), *responses[1:]]

    async def handle_MAIL(self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        answer = self._script().get("mail")
        if answer is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer or "250 2.1.0 sender ok"

    async def handle_RCPT(self, server: Primary, _: Session, envelope: Envelope, __: str, options: list[str]) -> str:
        address = server.said.partition("<")[2].rpartition(">")[0]
        script = self._script()
        answer = script.get("rcpt", {}).get(address)
        if answer is None and address not in script.get("known", [address]):
            answer = "550 5.1.1 there is nobody of that name"
        with (self._folder / "asked").open("a") as asked:
            asked.write(f"{address}\n")
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 2.1.5 recipient ok"

    async def handle_DATA(self, server: Primary, session: Session, envelope: Envelope) -> str:
        script = self._script()
        await asyncio.sleep(script.get("dot_delay", 0))
        if "dot" in script:
            return str(script["dot"])
        name = f"{next(self._numbers):06d}"
        assert isinstance(envelope.original_content, bytes)
        (self._folder / f"{name}.part").write_bytes(envelope.original_content)
        assert server.transport is not None
        told = {
            "host": server.transport.get_extra_info("sockname")[0],
            "peer": server.transport.get_extra_info("peername")[0],
            "sender": (envelope.mail_from or "").removeprefix("<>"),
            "recipients": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "parameters": server.parameters,
        }
        (self._folder / f"{name}.json.part").write_text(json.dumps(told))
        (self._folder / f"{name}.part").rename(self._folder / f"{name}.eml")
        (self._folder / f"{name}.json.part").rename(self._folder / f"{name}.json")
        if script.get("drop_at_dot"):
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return f"250 2.0.0 kept as {name}"


async def main(where: str, folder: Path, *certificate: str) -> None:
    *hosts, port = where.split(",")
    recorder = Recorder(folder)
    loop = asyncio.get_running_loop()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

    def session() -> SMTP:
        return Primary(
            recorder,
            hostname="primary.example",
            data_size_limit=LARGEST,
            enable_SMTPUTF8=True,
            tls_context=context,
            loop=loop,
        )

    server = await loop.create_server(session, hosts, int(port), backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
