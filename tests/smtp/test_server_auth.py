"""AUTH in the dialogue: when it may come, what its lines may be, and that nobody else is offered it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conversation_fake import HOSTNAME, FakeConversation

from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import SmtpSettings
from inboundmx.smtp.dialogue import Dialogue
from inboundmx.smtp.server_auth import LINE_LIMIT

STRANGER = Session("0123456789", "192.0.2.1", 1234, "192.0.2.25", 0.0)
CLEAR = replace(STRANGER, submission=True)
SECURE = replace(CLEAR, tls="TLSv1.3 X")
CHALLENGE, PROVED, WRONG = Reply(334, "", "eA=="), Reply(235, "2.7.0", "in"), Reply(535, "5.7.8", "no")
HELLO = b"EHLO c.example\r\n"


class Asked(FakeConversation):
    def mechanisms(self) -> tuple[str, ...]:
        return ("SCRAM-SHA-256", "PLAIN")

    def authenticate(self, mechanism: str, said: bytes | None) -> Any:
        return self._answer("authenticate", mechanism, said)


class Talk:
    def __init__(self, session: Session = SECURE, *answers: Reply, limits: SmtpSettings | None = None) -> None:
        self.conversation = Asked({"authenticate": list(answers)})
        self.dialogue = Dialogue(
            self.conversation, session, limits or SmtpSettings(), HOSTNAME, starttls=True, report=self.fault
        )
        self.dialogue.advance()

    def fault(self, doing: str, error: BaseException) -> None:
        raise error

    def say(self, data: bytes) -> str:
        """The codes of the answers."""
        self.dialogue.outgoing.clear()
        self.dialogue.receive(data)
        assert self.dialogue.advance() is None
        self.text = b"".join(self.dialogue.outgoing).decode()
        return " ".join(line[:3] for line in self.text.split("\r\n")[:-1] if line[3] == " ")

    @property
    def asked(self) -> list[Any]:
        return [each[1:] for each in self.conversation.asked if each[0] == "authenticate"]


@pytest.mark.parametrize(("session", "offered"), [(STRANGER, False), (CLEAR, False), (SECURE, True)])
def test_it_is_offered_on_submission_over_tls_alone(session: Session, offered: bool) -> None:
    talk = Talk(session)
    talk.say(HELLO)
    assert ("250-AUTH SCRAM-SHA-256 PLAIN\r\n" in talk.text) is offered
    tls = Talk(replace(STRANGER, tls="TLSv1.3 X"))
    tls.say(HELLO)
    assert "AUTH" not in tls.text


@pytest.mark.parametrize(
    ("session", "said", "codes"),
    [
        (STRANGER, HELLO + b"AUTH PLAIN AA==\r\nAUTH\r\n", "250 502 502"),
        (CLEAR, HELLO + b"AUTH PLAIN AA==\r\nAUTH\r\n", "250 538 501"),
        (SECURE, b"AUTH PLAIN AA==\r\n", "503"),
        (SECURE, b"HELO c.example\r\nAUTH PLAIN AA==\r\n", "250 503"),
        (SECURE, HELLO + b"MAIL FROM:<>\r\nAUTH PLAIN AA==\r\n", "250 250 503"),
        (SECURE, HELLO + b"AUTH CRAM-MD5\r\nAUTH PLAIN A\r\nAUTH PLAIN !\r\n", "250 504 501 501"),
    ],
)
def test_where_it_may_not_come_nobody_is_asked(session: Session, said: bytes, codes: str) -> None:
    talk = Talk(session)
    assert talk.say(said) == codes
    assert talk.asked == []


def test_lines_of_an_exchange_are_no_commands() -> None:
    talk = Talk(SECURE, CHALLENGE, CHALLENGE, PROVED)
    assert talk.say(HELLO + b"AUTH PLAIN\r\nUVVJVA==\r\n\r\nQUIT\r\n") == "250 334 334 235 221"
    assert talk.asked == [("PLAIN", None), ("", b"QUIT"), ("", b"")]


def test_an_initial_response_may_be_empty() -> None:
    talk = Talk(SECURE, WRONG, PROVED)
    assert talk.say(HELLO + b"AUTH plain =\r\nAUTH PLAIN AGEAYg==\r\n") == "250 535 235"
    assert talk.asked == [("PLAIN", b""), ("PLAIN", b"\0a\0b")]


def test_once_is_enough() -> None:
    talk = Talk(SECURE, PROVED)
    assert talk.say(HELLO + b"AUTH PLAIN AA==\r\nAUTH PLAIN AA==\r\n" + HELLO) == "250 235 503 250"
    assert "AUTH" not in talk.text.rpartition("503")[2]


@pytest.mark.parametrize(
    ("line", "code"), [(b"*", "501"), (b"no base64!", "501"), (b"A" * LINE_LIMIT, "500"), (b"QU\nI=", "500")]
)
def test_an_exchange_is_given_up(line: bytes, code: str) -> None:
    talk = Talk(SECURE, CHALLENGE)
    assert talk.say(HELLO + b"AUTH PLAIN\r\n" + line + b"\r\nNOOP\r\n") == f"250 334 {code} 250"
    assert talk.asked == [("PLAIN", None)]


def test_a_line_may_be_as_long_as_the_standard_says() -> None:
    talk = Talk(SECURE, CHALLENGE, WRONG)
    assert talk.say(HELLO + b"AUTH PLAIN\r\n" + b"A" * (LINE_LIMIT - 4) + b"\r\n") == "250 334 535"
    assert Talk(STRANGER).say(b"NOOP " + b"A" * 4096 + b"\r\n") == "500"


def test_failures_end_the_session() -> None:
    talk = Talk(SECURE, *[WRONG] * 3, limits=SmtpSettings(max_bad_commands=3))
    assert talk.say(HELLO + b"AUTH PLAIN AA==\r\n" * 4) == "250 535 535 535 421"
    assert talk.dialogue.closing
