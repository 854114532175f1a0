"""Who the real client is, as told to a server that trusts us: XFORWARD and XCLIENT (Postfix).

Knows how the commands are written, and that XCLIENT makes a session of another client of the connection. Does not know
who is told, nor what the server does with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from inboundmx.model.custody import Client
from inboundmx.model.ip import is_ip
from inboundmx.model.reply import Reply
from inboundmx.smtp.client_hello import Hello, Login

if TYPE_CHECKING:
    from inboundmx.smtp.client_connection import SmtpConnection
    from inboundmx.smtp.client_transaction import Transaction

UNAVAILABLE = "[UNAVAILABLE]"
XFORWARD = ("NAME", "ADDR", "PORT", "PROTO", "HELO")
XCLIENT = ("ADDR", "NAME", "HELO")
# Both commands' own limit is 512 octets.
LINE_LIMIT = 510
# What a name may be at most. A server refuses a longer one, and then would take the client for us.
VALUE_LIMIT = 255

# RFC 5321 4.1.1.1: a name, or an address in brackets.
_HELLO = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[A-Za-z0-9.:]+\]")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def xtext(text: str) -> str:
    """RFC 3461 4."""
    return "".join(
        chr(octet) if 0x21 <= octet <= 0x7E and octet not in b"+=" else f"+{octet:02X}" for octet in text.encode()
    )


def xforward(client: Client, offered: str) -> str:
    """The command with what the host listed after XFORWARD, empty when that is nothing."""
    return _command("XFORWARD", XFORWARD, offered, client)


def xclient(client: Client, offered: str) -> str:
    """The command, empty when the host does not want to know addresses."""
    return _command("XCLIENT", XCLIENT, offered, client) if "ADDR" in offered.upper().split() else ""


def _command(verb: str, known: tuple[str, ...], offered: str, client: Client) -> str:
    listed = set(offered.upper().split())
    values = {"ADDR": _address(client.ip), "NAME": _name(client.name), "HELO": _hello(client.hello)}
    words = [f"{name}={values.get(name, UNAVAILABLE)}" for name in known if name in listed]
    if not words:
        return ""
    line = " ".join([verb, *words])
    return line if len(line) <= LINE_LIMIT else line.replace(f"HELO={values['HELO']}", f"HELO={UNAVAILABLE}")


def _address(ip: str) -> str:
    if not is_ip(ip):
        return UNAVAILABLE
    return f"IPV6:{ip}" if ":" in ip else ip


def _name(name: str) -> str:
    return name if len(name) <= VALUE_LIMIT and _HOST_NAME.fullmatch(name) and ".." not in name else UNAVAILABLE


def _hello(hello: str) -> str:
    return xtext(hello) if hello and len(hello) <= VALUE_LIMIT and hello.isprintable() else UNAVAILABLE


class Introduction:
    """Before a transaction: tells the host its client by XCLIENT, greets it as that and authenticates again. It listens
    to the connection until the transaction takes over.

    A host that does not want to be told gets the message all the same, from ourselves, and is not told again. Where it
    took us for another client before, that will not do: the connection ends, as one does that was closed meanwhile. So
    it does where only one client a connection can be told of (Postfix: the client told is not trusted itself).
    What the host refuses after it was told, it refuses that client: an answer to the message.
    """

    def __init__(
        self, connection: SmtpConnection, transaction: Transaction, client: Client | None, seconds: float
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        self._client = client
        self._seconds = seconds
        self._next: Callable[[Reply], object] = self._after_reset

    def start(self) -> None:
        connection = self._connection
        offered = connection.extensions.get("XCLIENT")
        command = xclient(self._client, offered) if self._client is not None and offered is not None else ""
        if not command:
            self._withdraw() if connection.told is not None else connection.pass_on(self, self._transaction)
            return
        self._command = command
        if connection.transaction_open:
            self._send("RSET")
        else:
            self._tell()

    def abandon(self) -> None:
        self._transaction.abandon()

    def heard(self, reply: Reply) -> None:
        self._next(reply)

    def failed(self, trouble: str) -> None:
        self._transaction.failed(trouble)

    # --- step by step ---

    def _send(self, command: str) -> None:
        self._connection.send(command.encode("ascii") + b"\r\n", self._seconds)

    def _after_reset(self, reply: Reply) -> None:
        if reply.code == 421:
            self._answered(reply)
        elif 200 <= reply.code < 300:
            self._connection.transaction_open = False
            self._tell()
        else:
            self._connection.fail("garbage")

    def _tell(self) -> None:
        self._next = self._after_xclient
        self._send(self._command)

    def _after_xclient(self, reply: Reply) -> None:
        connection = self._connection
        if reply.code == 220:
            connection.told = self._client
            # A host goes by what EHLO says, whatever XCLIENT has said (Postfix does).
            said = self._client.hello if self._client is not None else ""
            name = said if len(said) <= VALUE_LIMIT and _HELLO.fullmatch(said) else connection.hostname
            hello = Hello(connection, name, self._seconds, self._log_in, self._answered)
            self._next = hello.heard
            hello.say()
        elif reply.code == 421:
            self._answered(reply)
        elif reply.code < 400:
            connection.fail("garbage")
        elif connection.told is not None:
            self._withdraw()
        else:
            connection.facts = "refused"
            self._transaction.doubt = reply
            connection.pass_on(self, self._transaction)

    def _log_in(self) -> None:
        connection = self._connection
        if not connection.terms.username or not any(word.startswith("AUTH") for word in connection.extensions):
            connection.pass_on(self, self._transaction)
            return
        login = Login(connection, self._seconds, self._go_on, self._not_in)
        self._next = login.heard
        login.start()

    def _go_on(self) -> None:
        self._connection.pass_on(self, self._transaction)

    def _not_in(self, trouble: str, reply: Reply | None, detail: str) -> None:
        if reply is not None and reply.code == 503:
            # Already authenticated: this host forgets the client only.
            self._go_on()
            return
        self._connection.release(self, keep=False)
        self._transaction.rejected(trouble, reply)

    def _answered(self, reply: Reply) -> None:
        if reply.code < 400:
            self._connection.fail("garbage")
            return
        self._connection.release(self, keep=False)
        self._transaction.turned_away(reply)

    def _withdraw(self) -> None:
        self._connection.release(self, keep=False)
        self._transaction.failed("lost")
