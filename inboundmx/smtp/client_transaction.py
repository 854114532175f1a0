"""One mail transaction as the client of a server: MAIL, RCPT, DATA, content, the final dot (RFC 5321, RFC 2033).

Knows what may be sent in one write, and what each answer means for each recipient. Does not know how the connection
came about, nor what is done about an outcome.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from inboundmx.model.custody import DeliveryAttempt, Parcel, Phase
from inboundmx.model.reply import Reply
from inboundmx.smtp.client_content import LargeContent, small_content
from inboundmx.smtp.client_envelope import Unfit, mail_command, recipient_commands
from inboundmx.smtp.client_facts import xforward

if TYPE_CHECKING:
    from inboundmx.smtp.client_connection import SmtpConnection

# Answers that speak of us and not of the mail: no mail accepted here, authentication or encryption wanted.
REJECTS_US = frozenset({521, 530, 535, 538})

# Answers to MAIL, RCPT and DATA that a host gives which did not understand a command, does not have it, or thinks it
# out of order (RFC 5321 4.2.4, 4.3.2): every one of ours is one that each server must have, in the order it must have
# them. So host and we are out of step, or something between us garbles, and nothing was said of the message: it waits,
# and goes over another connection. An enhanced code of other matters says that the message is meant. 501 and 504 speak
# of what a command was given, which is the message's own, such as an address that is not fully qualified.
OUT_OF_STEP = frozenset({500, 502, 503})

# RFC 5321 4.5.3.2.5: a slow host has so long for each block of a large content, however short it is kept otherwise.
BLOCK_SECONDS = 180.0

_OWN_WORDS = {
    "timeout": ("4.4.2", "the mail server did not answer in time"),
    "lost": ("4.4.2", "the connection to the mail server was lost"),
    "garbage": ("4.4.0", "the mail server's answer was not understood"),
    "rejects_us": ("4.4.0", "the mail server refuses to talk to this gateway"),
    "abandoned": ("4.4.7", "the mail server took too long"),
    "damaged": ("4.3.0", "the stored content could not be read whole"),
}


def own_reply(trouble: str, host_reply: Reply | None = None) -> Reply:
    """A 4xx of our own making for trouble on the way; the host's words, made harmless already, at its end."""
    enhanced, sentence = _OWN_WORDS[trouble]
    return Reply(451, enhanced, f"{sentence}: {host_reply}" if host_reply else sentence)


def _out_of_step(reply: Reply) -> bool:
    return reply.code in OUT_OF_STEP and (not reply.enhanced or reply.enhanced.startswith("5.5."))


class Transaction:
    """``ports.Transmission``. ``done`` fires once and never fails; cancelling it abandons the transaction."""

    __slots__ = (
        "_accepted", "_answer_seconds", "_answers", "_asked", "_before", "_commands", "_connection", "_data_asked",
        "_dot_seconds", "_finished", "_large", "_next", "_parcel", "_phase", "_started_at", "done", "dot_sent", "doubt",
    )  # fmt: skip

    def __init__(self, connection: SmtpConnection, parcel: Parcel, answer_seconds: float, dot_seconds: float) -> None:
        self.done: Deferred[DeliveryAttempt] = Deferred(lambda _: self.abandon())
        self.dot_sent = False
        # A refusal of XCLIENT, which may have been one of the client.
        self.doubt: Reply | None = None
        self._connection = connection
        self._parcel = parcel
        self._answer_seconds = answer_seconds
        self._dot_seconds = dot_seconds
        self._started_at = connection.clock.now()
        self._phase = Phase.MAIL
        # A function of the class: bound to this it would be a cycle with the content in it, which is freed only when
        # the collector comes by.
        self._next: Callable[[Transaction, Reply], object] = Transaction._after_mail
        # What each recipient finally hears; None until that is certain.
        self._answers: list[Reply | None] = [None] * len(parcel.recipients)
        self._accepted: list[tuple[int, Reply]] = []
        self._asked = 0
        # What goes one at a time without PIPELINING, the one being answered first; and those of them before MAIL.
        self._commands: list[str] = []
        self._before: list[str] = []
        self._data_asked = False
        self._large: LargeContent | None = None
        self._finished = False

    def start(self) -> None:
        connection, parcel = self._connection, self._parcel
        extensions = connection.extensions
        try:
            mail = mail_command(parcel, extensions)
        except Unfit as unfit:
            self._answer_all(unfit.reply)
            self._finish(unfit.trouble)
            return
        commands = self._commands = [mail, *recipient_commands(parcel, extensions)]
        if len(commands) == 2 and connection.pipelining and not parcel.question:
            commands.append("DATA")
            self._data_asked = True
        if connection.transaction_open or connection.facts == "xforward":
            self._prepare()
        self._send("\r\n".join(commands) if connection.pipelining else commands[0])

    def abandon(self) -> None:
        if not self._finished and not self.dot_sent:
            self._connection.fail("abandoned")

    # --- called by the connection ---

    def heard(self, reply: Reply) -> None:
        if reply.code == 421 or (reply.code in REJECTS_US and not self._excused):
            self._goodbye(reply)
            return
        self._connection.wait(self._answer_seconds)
        self._next(self, reply)

    def failed(self, trouble: str) -> None:
        """The connection is of no more use."""
        if self._large is not None:
            self._large.stopProducing()
        if self._certain:
            trouble = ""
        else:
            self._answer_all(own_reply(trouble))
        self._finish(trouble)

    # --- called by the introduction ---

    def rejected(self, trouble: str, reply: Reply | None) -> None:
        """It is us whom the host does not want."""
        self._answer_all(own_reply(trouble, reply))
        self._finish(trouble, keep=False)

    def turned_away(self, reply: Reply) -> None:
        """The host does not want to hear from this client, or not now."""
        self._answer_all(reply)
        self._finish("lost" if reply.code == 421 else "", keep=False)

    # --- the envelope ---

    @property
    def _certain(self) -> bool:
        """Whether every recipient's outcome is known, so that what is still heard does not matter."""
        return None not in self._answers

    @property
    def _unlike(self) -> bool:
        """Whether some recipients were refused of a parcel that goes to all or none."""
        return self._parcel.all_or_nothing and len(self._accepted) < len(self._answers)

    @property
    def _excused(self) -> bool:
        """Whether it is XFORWARD that was just answered: whatever is wrong with it, the message may be welcome."""
        return bool(self._before) and self._before[0] != "RSET"

    def _prepare(self) -> None:
        """What goes before MAIL."""
        connection, client = self._connection, self._parcel.client
        if connection.transaction_open:
            self._before.append("RSET")
        if connection.facts == "xforward" and client is not None:
            told = xforward(client, connection.extensions.get("XFORWARD", ""))
            if told:
                self._before.append(told)
        if self._before:
            self._commands[:0] = self._before
            self._next = Transaction._after_before

    def _send(self, command: str) -> None:
        self._connection.send(command.encode() + b"\r\n", self._answer_seconds)

    def _send_next(self) -> None:
        """The command after the one just answered, unless all were sent together."""
        if not self._connection.pipelining:
            del self._commands[0]
            self._send(self._commands[0])

    def _after_before(self, reply: Reply) -> None:
        connection = self._connection
        said = self._before.pop(0)
        if said != "RSET" and reply.code >= 400:
            connection.facts = ""
        elif not 200 <= reply.code < 300:
            connection.fail("garbage")
            return
        if said == "RSET":
            connection.transaction_open = False
        if not self._before:
            self._next = Transaction._after_mail
        self._send_next()

    def _after_mail(self, reply: Reply) -> None:
        if 200 <= reply.code < 300:
            self._connection.transaction_open = True
            self._phase = Phase.RECIPIENT
        elif reply.code < 400:
            self._connection.fail("garbage")
            return
        else:
            # 503 says that nothing is in order after the client was refused; the refusal said why, and for how long.
            doubted = self.doubt if reply.code == 503 else None
            if doubted is None and _out_of_step(reply):
                self._end_out_of_step(reply)
                return
            self._answer_all(doubted or reply)
        if self._connection.pipelining:
            self._next = Transaction._after_recipient
        elif self._certain:
            self._finish()
        else:
            self._next = Transaction._after_recipient
            self._send_next()

    def _after_recipient(self, reply: Reply) -> None:
        if self._connection.transaction_open:
            if 200 <= reply.code < 300:
                self._accepted.append((self._asked, reply))
            elif reply.code < 400:
                self._connection.fail("garbage")
                return
            elif _out_of_step(reply):
                self._end_out_of_step(reply)
                return
            else:
                self._answers[self._asked] = reply
        self._asked += 1
        if self._asked < len(self._answers):
            self._send_next()
        elif self._data_asked:
            self._next = Transaction._after_data
            if not self._certain:
                self._phase = Phase.DATA
        elif self._certain or self._parcel.question or self._unlike:
            # The next transaction on this connection begins with RSET.
            for at, acceptance in self._accepted:
                self._answers[at] = acceptance
            self._finish()
        else:
            self._next = Transaction._after_data
            self._phase = Phase.DATA
            self._send("DATA")

    # --- the content ---

    def _after_data(self, reply: Reply) -> None:
        if self._certain:
            if reply.code == 354:
                # Nobody to give the content to: an empty message, whose answer does not matter.
                self._next = Transaction._after_lone_dot
                self._connection.send(b".\r\n", self._answer_seconds)
            else:
                self._finish()
            return
        if reply.code == 354:
            self._next = Transaction._after_dot
            self._send_content()
        elif reply.code < 400:
            self._connection.fail("garbage")
        elif _out_of_step(reply):
            self._end_out_of_step(reply)
        else:
            self._answer_all(reply)
            self._finish()

    def _send_content(self) -> None:
        connection, content = self._connection, self._parcel.content
        if content.body.path is None:
            self._send_end(small_content(content))
            return
        self._large = LargeContent(
            content,
            os.path.join(connection.folder, content.body.path),
            connection.transport,
            progress=lambda: connection.wait(max(self._answer_seconds, BLOCK_SECONDS)),
            finished=lambda end: self._send_end([end]),
            damaged=lambda: connection.fail("damaged"),
        )
        self._large.start()

    def _send_end(self, pieces: list[bytes]) -> None:
        if self._connection.silent:
            self.dot_sent = True
            self._phase = Phase.DOT
        self._connection.send_all(pieces, self._dot_seconds)

    def _after_lone_dot(self, reply: Reply) -> None:
        self._connection.transaction_open = False
        self._finish()

    def _after_dot(self, reply: Reply) -> None:
        if not self.dot_sent or 300 <= reply.code < 400:
            # An answer before there was anything to answer is as wrong as one that makes no sense.
            self._connection.fail("garbage")
            return
        if self._connection.lmtp:
            at, _ = self._accepted.pop(0)
            self._answers[at] = reply
            if self._accepted:
                self._connection.wait(self._dot_seconds)
                return
        else:
            self._answer_all(reply)
        self._connection.transaction_open = False
        self._finish()

    # --- the end ---

    def _goodbye(self, reply: Reply) -> None:
        """421, or an answer that refuses us: the connection ends. At the final dot a 421 answers the message too."""
        if self._certain:
            trouble = ""
        elif reply.code != 421:
            trouble = "rejects_us"
            self._answer_all(own_reply(trouble, reply))
        else:
            trouble = "" if self.dot_sent else "lost"
            self._answer_all(reply)
        if self._large is not None and not self.dot_sent:
            # QUIT would only be more content.
            self._large.stopProducing()
            self._connection.discard()
        self._finish(trouble, keep=False)

    def _end_out_of_step(self, reply: Reply) -> None:
        """Without another word: whatever we say may be taken for something else."""
        self._answer_all(own_reply("garbage", reply))
        self._connection.discard()
        self._finish("garbage", keep=False)

    def _answer_all(self, reply: Reply) -> None:
        """For every recipient whose outcome is not certain yet."""
        self._answers = [reply if answer is None else answer for answer in self._answers]

    def _finish(self, trouble: str = "", *, keep: bool = True) -> None:
        self._finished = True
        # It would call us, which is a cycle as well.
        self._large = None
        connection = self._connection
        if connection.facts == "refused" and self._phase is not Phase.DOT:
            # It may be the client who was refused and not the command: nobody else is sent over this connection.
            keep = False
        connection.release(self, keep=keep)
        pairs = zip(self._parcel.recipients, self._answers, strict=True)
        self.done.callback(
            DeliveryAttempt(
                host=connection.host,
                started_at=self._started_at,
                ended_at=connection.clock.now(),
                phase=self._phase,
                replies=tuple((recipient, answer) for recipient, answer in pairs if answer is not None),
                tls=connection.tls,
                trouble=trouble,
                dot_sent=self.dot_sent,
                dsn="DSN" in connection.extensions,
            )
        )
