"""How we begin with a server: EHLO and what it offers, then who we are.

Knows the two dialogues, on any connection that is asked to carry them. Does not know what came before, nor what is done
when one does not succeed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from inboundmx.model.reply import Reply
from inboundmx.smtp.client_auth import Exchange, mechanisms

if TYPE_CHECKING:
    from inboundmx.smtp.client_connection import SmtpConnection

# RFC 4954 4: this mechanism will not do, another may.
ANOTHER = frozenset({504, 534})


class Hello:
    """EHLO, or LHLO, or HELO where EHLO is unknown, in the name of ``name``. ``welcome`` is called once the connection
    knows its extensions, ``unwelcome`` with any other answer."""

    def __init__(
        self,
        connection: SmtpConnection,
        name: str,
        seconds: float,
        welcome: Callable[[], object],
        unwelcome: Callable[[Reply], object],
    ) -> None:
        self._connection = connection
        self._name = name
        self._seconds = seconds
        self._welcome = welcome
        self._unwelcome = unwelcome
        self._verb = "LHLO" if connection.lmtp else "EHLO"

    def say(self) -> None:
        self._connection.send(f"{self._verb} {self._name}\r\n".encode("ascii"), self._seconds)

    def heard(self, reply: Reply) -> None:
        connection = self._connection
        if reply.code == 250:
            # HELO's answer is words.
            offers = connection.heard_lines[1:] if self._verb != "HELO" else ()
            pairs = (line.partition(" ") for line in offers)
            connection.extensions = {keyword.upper(): parameters for keyword, _, parameters in pairs}
            connection.pipelining = "PIPELINING" in connection.extensions
            self._welcome()
        elif reply.code in (500, 502) and self._verb == "EHLO":
            self._verb = "HELO"
            self.say()
        else:
            self._unwelcome(reply)


class Login:
    """AUTH with what the connection's terms say. ``welcome`` is called once we are in; ``unwelcome`` with a word of
    DeliveryAttempt.trouble, the server's answer without anything secret, or None, and what is wrong when the server has
    not said it."""

    def __init__(
        self,
        connection: SmtpConnection,
        seconds: float,
        welcome: Callable[[], object],
        unwelcome: Callable[[str, Reply | None, str], object],
    ) -> None:
        self._connection = connection
        self._seconds = seconds
        self._welcome = welcome
        self._unwelcome = unwelcome
        self._mechanisms = mechanisms(connection.extensions, encrypted=bool(connection.tls))

    def start(self) -> None:
        if not self._mechanisms:
            self._unwelcome("rejects_us", None, "the server offers no authentication by PLAIN, LOGIN or CRAM-MD5")
            return
        terms = self._connection.terms
        self._exchange = Exchange(self._mechanisms.pop(0), terms.username, terms.password)
        self._send(self._exchange.command)

    def heard(self, reply: Reply) -> None:
        if reply.code == 235:
            self._welcome()
        elif reply.code == 334:
            answer = self._exchange.answer(reply.text)
            if answer is None:
                self._unwelcome("garbage", None, "")
            else:
                self._send(answer)
        elif reply.code in ANOTHER and self._mechanisms:
            self.start()
        elif reply.permanent:
            self._unwelcome("rejects_us", self._exchange.cut(reply), "")
        else:
            self._unwelcome("lost" if reply.temporary else "garbage", self._exchange.cut(reply), "")

    def _send(self, line: str) -> None:
        self._connection.send(line.encode("ascii") + b"\r\n", self._seconds)
