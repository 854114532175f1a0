"""One SMTP conversation as a server has it: which command may come when, and what is answered.

Knows the order of RFC 5321 4.1.4, PIPELINING (RFC 2920), STARTTLS (RFC 3207), PRDR (draft-hall-prdr) and the limits of
``[smtp]``. Does not know a socket, a clock, or what a message is worth: it asks the ``Conversation``, one question at a
time, and what arrives meanwhile waits. It does no I/O: ``receive`` takes octets, ``advance`` works them off until a
question must be asked, and whoever drives it writes ``outgoing``, begins TLS and closes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import CoroutineType
from typing import Any, cast

from twisted.internet.defer import Deferred

from inboundmx.model.envelope import Envelope
from inboundmx.model.message import Body
from inboundmx.model.reply import Replies, Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import SmtpSettings
from inboundmx.ports import Authenticating, Conversation, Draft, StorageFull
from inboundmx.prompt import resumed
from inboundmx.smtp import server_auth
from inboundmx.smtp.commands import (
    FOREIGN_FIRST,
    FOREIGN_LENGTH,
    Auth,
    Bad,
    Command,
    Data,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
    foreign,
    parse,
)
from inboundmx.smtp.framing import ContentReader, Flaw, LineReader
from inboundmx.smtp.naming import OFFER, Named, named

Then = Callable[[Reply], None]
# Begins anew for a client that somebody speaks for: a conversation and a session of its own, and perhaps a refusal,
# recorded already.
Rename = Callable[[Named], tuple[Conversation, Session, Reply | None]]

_OK = Reply(250, "2.0.0", "OK")
_ANALYSED = Reply(353, "", "content analysis has started")
_BYE = Reply(221, "2.0.0", "Bye", then_close=True)
_TELLS_NOBODY = Reply(252, "2.5.0", "Cannot tell; send some mail and it will be seen")
_HELP = Reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP STARTTLS QUIT; see RFC 5321")
_READY = Reply(220, "2.0.0", "Ready to start TLS")
_FAULT = Reply(451, "4.3.0", "Something is wrong on our side; please try again later")
_FULL = Reply(452, "4.3.1", "No room to take this now; please try again later")
STOPPING = Reply(421, "4.3.2", "Service is stopping; please try again later", then_close=True)
_TOO_MANY_BAD = Reply(421, "4.7.0", "Too many bad commands", then_close=True)
_TOO_MUCH_JUNK = Reply(421, "4.7.0", "Too many commands without any mail", then_close=True)
_TOO_MANY_REFUSED = Reply(421, "4.7.0", "Too many refused recipients", then_close=True)
_TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send the message to the others separately")
_TOO_LARGE = Reply(552, "5.3.4", "Message is too large")
_STRAY = Reply(554, "5.6.0", "Message holds a bare CR, a bare LF or a NUL")
_NO_HELLO = Reply(503, "5.5.1", "Say EHLO first")
_NO_MAIL = Reply(503, "5.5.1", "Say MAIL first")
_SECOND_MAIL = Reply(503, "5.5.1", "A transaction is under way already")
_NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
_NO_TLS = Reply(502, "5.5.1", "STARTTLS is not offered")
_TLS_ALREADY = Reply(503, "5.5.1", "TLS is on already")
_NOT_FOR_OTHERS = Reply(550, "5.7.0", "You may not speak for others")
_NOT_NAMED = Reply(501, "5.5.4", "Not a client that could be named so")
_FLAWS = {
    Flaw.TOO_LONG: Reply(500, "5.5.2", "Line too long"),
    Flaw.STRAY: Reply(500, "5.5.2", "Line holds a bare CR, a bare LF or a NUL"),
    Flaw.ENDLESS: Reply(500, "5.5.2", "Line without end", then_close=True),
}


class Dialogue:
    """The state machine of one connection.

    ``outgoing`` is what to write, in order. ``closing`` is empty, or a word of ``Conversation.closed``: after writing,
    close. ``begin_tls``: after writing, begin TLS, then call ``secured``. ``asking``: what is done with the answer to
    the question under way, None when nothing is asked. ``messages``: how many were taken. ``report`` is told of every
    exception that was answered with 4xx for want of anything better: (what was going on, the exception). ``rename`` is
    there for whom we believe whose connections it passes on (XCLIENT), else None.
    """

    __slots__ = (
        "_accepted",
        "_authenticated",
        "_bad",
        "_content",
        "_conversation",
        "_draft",
        "_exchanging",
        "_fresh",
        "_greeted",
        "_hello",
        "_hostname",
        "_junk",
        "_lines",
        "_problem",
        "_refused_recipients",
        "_rename",
        "_report",
        "_settings",
        "_starttls",
        "_stopping",
        "_transaction",
        "_utf8",
        "_verb",
        "asking",
        "begin_tls",
        "closing",
        "messages",
        "outgoing",
        "session",
    )

    def __init__(
        self,
        conversation: Conversation,
        session: Session,
        settings: SmtpSettings,
        hostname: str,
        *,
        starttls: bool,
        report: Callable[[str, BaseException], object],
        rename: Rename | None = None,
    ) -> None:
        self._conversation = conversation
        self.session = session
        self._settings = settings
        self._hostname = hostname
        self._starttls = starttls
        self._report = report
        self._rename = rename
        # What the client that was named has called itself, whatever whoever named it says in EHLO.
        self._hello = ""
        self._lines = LineReader(server_auth.LINE_LIMIT) if session.submission else LineReader()
        self._content: ContentReader | None = None
        self._draft: Draft | None = None
        self._problem: Reply | None = None
        self.asking: Then | None = None
        self._verb = ""
        self._greeted = False
        self._stopping = False
        self._transaction = False
        self._utf8 = False
        self._accepted = 0
        self._authenticated = False
        # A line that comes is no command, but the next step of AUTH.
        self._exchanging = False
        self._bad = 0
        self._junk = 0
        # Nothing has been heard yet: it may be another protocol.
        self._fresh = True
        self._refused_recipients = 0
        self.messages = 0
        self.outgoing: list[bytes] = []
        self.closing = ""
        self.begin_tls = False

    # --- what the shell calls -----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Octets have come. They are only kept: ``advance`` works them off."""
        self._lines.feed(data)

    def advance(self) -> Deferred[Reply] | None:
        """Goes on until there is a question to wait for, or nothing more can be done now. The answer to a question
        goes to ``answered`` or ``failed``; then ``advance`` again."""
        if self.asking is not None:
            return None
        if not self._greeted and not self.closing:
            self._greeted = True
            connected: Callable[..., Any] = self._conversation.connected
            if self.session.early:
                connected = partial(connected, early=True)
            question = self._ask("CONNECT", self._connected, connected)
            if question is not None:
                return question
        while not self.closing and not self.begin_tls:
            if self._content is not None:
                if not self._lines.waiting:
                    return None
                question = self._read_content(self._content)
            elif self._stopping:
                self.interrupt(STOPPING, "stopping")
                return None
            else:
                if self._fresh and self._is_foreign():
                    return None
                line = self._lines.next()
                if line is None:
                    return None
                question = self._command(line)
            if question is not None:
                return question
        return None

    def keep_silent(self) -> None:
        """Nothing is said, and nothing worked off, until ``greet``."""
        self.asking = _nothing

    def greet(self) -> None:
        """The silence is over. Who has spoken meanwhile did not wait for its turn (RFC 5321 3.1)."""
        self.asking = None
        if self.waiting:
            self.session = replace(self.session, early=True)

    def answered(self, reply: Reply) -> None:
        """The answer to the question that ``advance`` gave out."""
        then, self.asking = self.asking, None
        if then is not None:
            then(reply)

    def failed(self, error: BaseException) -> None:
        """The question that ``advance`` gave out failed: that is our fault, never the client's."""
        self.answered(self._conversation_refused(self._verb, self._faulty(self._verb, error)))

    def secured(self, tls: str, sni: str = "") -> None:
        """TLS is on: all that was said in the clear is forgotten (RFC 3207 4.2)."""
        self.begin_tls = False
        session = self.session = _with(self.session, "", False, tls)
        if sni:
            self.session = replace(session, sni=sni)

    def interrupt(self, reply: Reply, reason: str) -> None:
        """The connection is to end with ``reply`` (a time-out, a limit), whatever is going on."""
        self.closing = reason
        if not self._greeted:
            verb = "CONNECT"
        elif self.asking:
            verb = self._verb
        else:
            verb = "DATA" if self._content is not None else ""
        self.asking = None
        self._refuse(verb, reply)

    def stop(self) -> None:
        """Takes no more commands: a message on its way in and a question under way are finished, then 421."""
        self._stopping = True

    @property
    def in_transaction(self) -> bool:
        return self._transaction

    @property
    def stage(self) -> str:
        """What has begun last: the greeting, hello, mail (a transaction) or its content."""
        if self._content is not None:
            return "content"
        if self._transaction:
            return "mail"
        return "hello" if self.session.hello else "greeting"

    @property
    def waiting(self) -> int:
        """Octets that have come and are not worked off."""
        return self._lines.waiting

    @property
    def junk(self) -> int:
        """Commands that led nowhere, since the last message or whatever was put off."""
        return self._junk

    @property
    def content_octets(self) -> int:
        """How much of the content under way has come."""
        return 0 if self._content is None else self._content.size

    @property
    def under_way(self) -> str:
        """What has begun and not ended: a ``question``, the ``content``, the ``line`` of a command; or nothing."""
        if self.asking is not None:
            return "question"
        if self._content is not None:
            return "content"
        return "line" if self._lines.begun else ""

    # --- asking and answering -----------------------------------------------------------------------------------------

    def _ask(self, verb: str, then: Then, question: Callable[..., Any], *arguments: object) -> Deferred[Reply] | None:
        self._verb = verb
        try:
            answer = question(*arguments)
            if type(answer) is CoroutineType:
                # Nearly every answer is there at once. Heard here, and not by way of the shell, it costs 2 us less.
                answer = resumed(answer, answer.send(None))
            if not isinstance(answer, Reply):
                self.asking = then
                return answer  # type: ignore[no-any-return]
        except StopIteration as stop:
            answer = stop.value
        except Exception as error:  # noqa: BLE001 - whatever went wrong inside is answered 451
            answer = self._conversation_refused(verb, self._faulty(verb, error))
        then(answer)
        return None

    def _say(self, reply: Reply) -> None:
        self.outgoing.append(written(reply))
        if reply.then_close and not self.closing:
            self.closing = "limit"

    def _refuse(self, verb: str, reply: Reply) -> None:
        self._say(self._conversation_refused(verb, reply))
        if reply.then_close and not self.closing:
            self.closing = "limit"

    def _conversation_refused(self, verb: str, reply: Reply) -> Reply:
        try:
            return self._conversation.refused(verb, reply)
        except Exception as error:  # noqa: BLE001 - the client must hear the refusal even so
            self._report(verb, error)
            return reply

    def _refuse_bad(self, verb: str, reply: Reply) -> None:
        """Refuses what a well-behaved client would not have said."""
        self._bad += 1
        self._refuse(verb, _TOO_MANY_BAD if self._bad >= self._settings.max_bad_commands else reply)

    def _faulty(self, verb: str, error: BaseException) -> Reply:
        self._report(verb, error)
        return _FULL if isinstance(error, StorageFull) else _FAULT

    def _forget_transaction(self) -> None:
        self._transaction = False
        self._utf8 = False
        self._accepted = 0
        try:
            self._conversation.reset()
        except Exception as error:  # noqa: BLE001 - reported; the next transaction starts from nothing here anyway
            self._report("RSET", error)

    # --- commands -----------------------------------------------------------------------------------------------------

    def _is_foreign(self) -> bool:
        beginning = self._lines.beginning(FOREIGN_LENGTH)
        if not beginning:
            return False
        if beginning[0] not in FOREIGN_FIRST:
            self._fresh = False
            return False
        self._fresh = len(beginning) < FOREIGN_LENGTH and b"\n" not in beginning
        refusal = foreign(beginning)
        if refusal is not None:
            self._refuse("", refusal)
        return refusal is not None

    def _command(self, line: bytes | Flaw) -> Deferred[Reply] | None:
        if self._exchanging:
            return self._auth_line(line)
        if isinstance(line, Flaw):
            self._refuse_bad("", _FLAWS[line])
            return None
        command = parse(line, self._utf8, self._settings.forbidden_commands)
        return _ANSWERS[type(command)](self, command)

    def _is_junk(self, verb: str) -> bool:
        """Counts what costs us something and leads nowhere by itself, since the last message, or whatever we have put
        off: that it leads nowhere is not the client's fault. Of too much of it each is as bad as a bad command, and the
        last one is refused."""
        self._junk += 1
        if self._junk <= self._settings.max_junk_commands:
            return False
        self._bad += 1
        if self._bad < self._settings.max_bad_commands:
            return False
        self._refuse(verb, _TOO_MUCH_JUNK)
        return True

    def _connected(self, reply: Reply) -> None:
        self._say(reply)
        if not reply.positive and not self.closing:
            self.closing = "limit"

    def _on_bad(self, command: Bad) -> None:
        self._refuse_bad(command.verb, command.reply)

    def _on_hello(self, command: Hello) -> Deferred[Reply] | None:
        if self._is_junk("EHLO" if command.extended else "HELO"):
            return None
        if self._transaction:
            self._forget_transaction()
        session = _with(self.session, self._hello or command.name, command.extended, self.session.tls)
        verb = "EHLO" if command.extended else "HELO"

        def then(reply: Reply) -> None:
            if not reply.positive:
                self._say(reply)
                return
            self.session = session
            self.outgoing.append(self._extensions() if command.extended else f"250 {self._hostname}\r\n".encode())

        return self._ask(verb, then, self._conversation.hello, session)

    def _extensions(self) -> bytes:
        offered = () if self._authenticated else self._mechanisms(self.session)
        auth = f"250-AUTH {' '.join(offered)}\r\n" if offered else ""
        xclient = f"250-{OFFER}\r\n" if self._rename is not None else ""
        starttls = "250-STARTTLS\r\n" if self._starttls and not self.session.tls else ""
        return (
            f"250-{self._hostname}\r\n250-PIPELINING\r\n250-SIZE {self._settings.max_message_size}\r\n"
            "250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-PRDR\r\n"
            f"{auth}{starttls}{xclient}250 ENHANCEDSTATUSCODES\r\n"
        ).encode()

    # --- AUTH ---------------------------------------------------------------------------------------------------------

    def _on_auth(self, command: Auth) -> Deferred[Reply] | None:
        offered = self._mechanisms(self.session)
        begun = server_auth.begun(
            self.session, offered, self._authenticated, self._transaction, command.mechanism, command.initial
        )
        if isinstance(begun, Reply):
            self._refuse_bad("AUTH", begun)
            return None
        return self._ask("AUTH", self._auth_answered, self._authenticating.authenticate, begun.mechanism, begun.initial)

    def _auth_line(self, line: bytes | Flaw) -> Deferred[Reply] | None:
        self._exchanging = False
        if isinstance(line, Flaw):
            self._refuse_bad("AUTH", server_auth.LINE_TOO_LONG if line is Flaw.TOO_LONG else _FLAWS[line])
            return None
        said = None if line == b"*" else server_auth.decoded(line)
        if said is None:
            self._refuse_bad("AUTH", server_auth.GIVEN_UP if line == b"*" else server_auth.NOT_BASE64)
            return None
        return self._ask("AUTH", self._auth_answered, self._authenticating.authenticate, "", said)

    def _auth_answered(self, reply: Reply) -> None:
        self._exchanging = reply.code == 334
        self._authenticated = reply.positive and not self._exchanging
        self._say(reply)
        if reply.permanent:
            self._bad += 1
            if self._bad >= self._settings.max_bad_commands and not self.closing:
                self._refuse("AUTH", _TOO_MANY_BAD)

    def _mechanisms(self, session: Session) -> tuple[str, ...]:
        return self._authenticating.mechanisms() if session.submission and session.tls else ()

    @property
    def _authenticating(self) -> Authenticating:
        return cast(Authenticating, self._conversation)

    def _on_mail(self, command: Mail) -> Deferred[Reply] | None:
        if not self.session.hello:
            self._refuse_bad("MAIL", _NO_HELLO)
            return None
        if self._transaction:
            self._refuse_bad("MAIL", _SECOND_MAIL)
            return None
        if command.size is not None and command.size > self._settings.max_message_size:
            self._refuse("MAIL", _TOO_LARGE)
            return None

        def then(reply: Reply) -> None:
            self._transaction = reply.positive
            if reply.temporary:
                self._junk = 0
            self._utf8 = reply.positive and command.utf8
            self._say(reply)

        envelope = Envelope(
            command.sender, (), command.size, command.eight_bit, command.utf8, command.ret, command.envid
        )
        return self._ask("MAIL", then, self._conversation.mail, envelope, command.prdr)

    def _on_rcpt(self, command: Rcpt) -> Deferred[Reply] | None:
        if not self._transaction:
            self._refuse_bad("RCPT", _NO_MAIL)
            return None
        if self._accepted >= self._settings.max_recipients:
            self._refuse("RCPT", _TOO_MANY_RECIPIENTS)
            return None
        recipient: Callable[..., Any] = self._conversation.recipient
        if command.notify or command.original:
            recipient = partial(recipient, notify=command.notify, original=command.original)
        return self._ask("RCPT", self._recipient_answered, recipient, command.address)

    def _recipient_answered(self, reply: Reply) -> None:
        self._say(reply)
        if reply.positive:
            self._accepted += 1
        elif reply.permanent:
            self._refused_recipients += 1
            if self._refused_recipients >= self._settings.max_bad_recipients and not self.closing:
                # The recipient's own answer stands; this one is for the connection.
                self._refuse("RCPT", _TOO_MANY_REFUSED)
        else:
            self._junk = 0

    def _on_data(self, _command: Data) -> Deferred[Reply] | None:
        if not self._transaction:
            self._refuse_bad("DATA", _NO_MAIL)
            return None
        if not self._accepted:
            # No fault of a client that sends MAIL, RCPT and DATA in one go.
            if not self._is_junk("DATA"):
                self._refuse("DATA", _NO_RECIPIENTS)
            return None
        return self._ask("DATA", self._data_answered, self._conversation.data)

    def _data_answered(self, reply: Reply) -> None:
        if reply.code != 354:
            self._say(reply)
            return
        if self._stopping:
            self.interrupt(STOPPING, "stopping")
            return
        try:
            self._draft = self._conversation.draft()
        except Exception as error:  # noqa: BLE001 - no place for the content is our fault
            self._refuse("DATA", self._faulty("DATA", error))
            return
        self._say(reply)
        self._problem = None
        self._content = ContentReader()

    def _on_rset(self, _command: Rset) -> None:
        self._forget_transaction()
        if not self._is_junk("RSET"):
            self._say(_OK)

    def _on_noop(self, _command: Noop) -> None:
        if not self._is_junk("NOOP"):
            self._say(_OK)

    def _on_vrfy(self, command: Vrfy) -> None:
        if not self._is_junk(command.verb):
            self._say(_TELLS_NOBODY)

    def _on_help(self, _command: Help) -> None:
        if not self._is_junk("HELP"):
            self._say(_HELP)

    def _on_quit(self, _command: Quit) -> None:
        self.closing = "quit"
        self._say(_BYE)

    def _on_starttls(self, _command: StartTls) -> None:
        if self.session.tls:
            self._refuse_bad("STARTTLS", _TLS_ALREADY)
            return
        if not self._starttls:
            self._refuse_bad("STARTTLS", _NO_TLS)
            return
        self._say(_READY)
        self._lines.take()
        if self._transaction:
            self._forget_transaction()
        self.session = _with(self.session, "", False, "")
        self.begin_tls = True

    def _on_xclient(self, command: Xclient) -> Deferred[Reply] | None:
        if self._rename is None:
            self._refuse_bad("XCLIENT", _NOT_FOR_OTHERS)
            return None
        if self._transaction:
            self._refuse_bad("XCLIENT", _SECOND_MAIL)
            return None
        client = named(command.text)
        if client is None:
            self._refuse_bad("XCLIENT", _NOT_NAMED)
            return None
        if self._is_junk("XCLIENT"):
            return None
        self._hello = client.hello or ""
        self._conversation, self.session, refusal = self._rename(client)
        self._bad = self._refused_recipients = 0
        self._authenticated = False
        if refusal is not None:
            self._connected(refusal)
            return None
        return self._ask("CONNECT", self._connected, self._conversation.connected)

    # --- content ------------------------------------------------------------------------------------------------------

    def _read_content(self, content: ContentReader) -> Deferred[Reply] | None:
        """Whatever is wrong with the content is remembered and said after the final dot: up to there nothing is a
        command."""
        chunk = content.feed(self._lines.take())
        if self._problem is None:
            if content.size > self._settings.max_message_size:
                self._problem = _TOO_LARGE
            elif content.stray:
                self._problem = _STRAY
            elif chunk:
                self._write(chunk)
            if self._problem is not None:
                self._discard()
        if not content.ended:
            return None
        self._content = None
        self._lines.feed(content.rest)
        return self._content_ended()

    def _write(self, chunk: bytes) -> None:
        assert self._draft is not None
        try:
            self._draft.write(chunk)
        except Exception as error:  # noqa: BLE001 - storage trouble is answered 4xx after the final dot
            self._problem = self._faulty("DATA", error)

    def _content_ended(self) -> Deferred[Reply] | None:
        body: Body | None = None
        if self._problem is None:
            assert self._draft is not None
            try:
                body = self._draft.finish()
            except Exception as error:  # noqa: BLE001 - as above
                self._problem = self._faulty("DATA", error)
                self._discard()
        if self._problem is not None or body is None:
            self._transaction_over(self._conversation_refused("DATA", self._problem or _FAULT))
            return None
        # From here on the body is the conversation's: it may be on its way into the spool when the connection is lost.
        self._draft = None
        return self._ask("DATA", self._transaction_over, self._conversation.content, body)

    def _transaction_over(self, reply: Reply | Replies) -> None:
        if reply.positive:
            self.messages += 1
        if isinstance(reply, Replies):
            self.outgoing += map(written, (_ANALYSED, *reply.each))
            reply = reply.last
        self._say(reply)
        self._junk = 0
        self._forget_transaction()

    def _discard(self) -> None:
        """Gives room back at once, however long the client goes on sending what nobody wants."""
        draft, self._draft = self._draft, None
        if draft is not None:
            try:
                draft.discard()
            except Exception as error:  # noqa: BLE001 - a file left behind is no reason to fail
                self._report("DATA", error)


_ANSWERS: dict[type[Command], Callable[[Dialogue, Any], Deferred[Reply] | None]] = {
    Bad: Dialogue._on_bad,
    Hello: Dialogue._on_hello,
    Mail: Dialogue._on_mail,
    Rcpt: Dialogue._on_rcpt,
    Data: Dialogue._on_data,
    Rset: Dialogue._on_rset,
    Noop: Dialogue._on_noop,
    Vrfy: Dialogue._on_vrfy,
    Help: Dialogue._on_help,
    Quit: Dialogue._on_quit,
    StartTls: Dialogue._on_starttls,
    Xclient: Dialogue._on_xclient,
    Auth: Dialogue._on_auth,
}


def _nothing(_reply: Reply) -> None:
    """What is done with the answer while nothing was asked."""


def _with(session: Session, hello: str, extended: bool, tls: str) -> Session:
    # Written out: dataclasses.replace costs twice as much, and this is done for every connection.
    return Session(
        session.id,
        session.peer_ip,
        session.peer_port,
        session.local_ip,
        session.connected_at,
        hello,
        extended,
        tls,
        session.authenticated_as,
        session.reverse_name,
        session.via,
        session.early,
        session.sni,
        session.submission,
    )


def written(reply: Reply) -> bytes:
    """The reply as it goes over the wire (RFC 5321 4.2): ASCII, each line within 512 octets."""
    head = f"{reply.code} {reply.enhanced} " if reply.enhanced else f"{reply.code} "
    text = reply.text
    if len(text) < 490 and text.isascii() and text.isprintable():
        return f"{head}{text}\r\n".encode()
    lines: list[str] = []
    for line in text.split("\n"):
        plain = "".join(sign if " " <= sign <= "~" else "?" for sign in line)
        lines += textwrap.wrap(plain, 480) or [""]
    more = head[:3] + "-" + head[4:]
    return "".join(f"{more}{line}\r\n" for line in lines[:-1]).encode() + f"{head}{lines[-1]}\r\n".encode()
