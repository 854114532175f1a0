"""The state machine without a shell: whatever way octets come in and answers come late, the same is said."""

from __future__ import annotations

from typing import Any

import pytest
from conversation_fake import HOSTNAME, FakeConversation
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import SmtpSettings
from inboundmx.ports import StorageFull, Unavailable
from inboundmx.smtp.dialogue import Dialogue, written

SESSION = Session("0123456789", "192.0.2.1", 1234, "192.0.2.25", 0.0)
ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n"


class Stage:
    def __init__(self, conversation: FakeConversation, limits: SmtpSettings | None = None) -> None:
        self.conversation = conversation
        self.faults: list[tuple[str, BaseException]] = []
        self.dialogue = Dialogue(
            conversation,
            SESSION,
            limits or SmtpSettings(),
            HOSTNAME,
            starttls=False,
            report=lambda doing, error: self.faults.append((doing, error)),
        )
        self.go_on()

    def go_on(self) -> None:
        while (question := self.dialogue.advance()) is not None:
            question.addCallbacks(self.dialogue.answered, self.fail)
            if self.dialogue.asking:
                break

    def fail(self, failure: Any) -> None:
        self.dialogue.failed(failure.value)

    def say(self, data: bytes) -> None:
        if not self.dialogue.closing:
            self.dialogue.receive(data)
            self.go_on()

    def fire(self) -> None:
        self.conversation.fire()
        self.go_on()

    @property
    def codes(self) -> list[str]:
        said = b"".join(self.dialogue.outgoing).decode().split("\r\n")[:-1]
        return [line[:3] for line in said if line[3] == " "]


SCRIPT = (
    ENVELOPE
    + b"first\r\n..dot\r\n.\r\n"
    + b"MAIL FROM:<>\r\nRCPT TO:<x@d.example>\r\nRCPT TO:bad\r\nNOOP\r\nDATA\r\nsecond\n\r\n.\r\n"
    + b"VRFY x\r\nRSET\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nDATA\r\nQUIT\r\nNOOP\r\n"
)
SAID = "220 250 250 250 354 250 250 250 501 250 354 554 252 250 250 503 554 221"
QUESTIONS = ("connected", "hello", "mail", "recipient", "data", "content")


@given(st.frozensets(st.sampled_from(QUESTIONS)), st.lists(st.integers(1, 60), min_size=1, max_size=40), st.booleans())
@settings(max_examples=200, deadline=None)
def test_order_does_not_depend_on_pieces_or_delays(slow: frozenset[str], steps: list[int], eager: bool) -> None:
    stage = Stage(FakeConversation(slow=slow))
    at = 0
    while at < len(SCRIPT):
        step = steps[at % len(steps)]
        stage.say(SCRIPT[at : at + step])
        at += step
        while eager and stage.conversation.pending:
            stage.fire()
    while stage.conversation.pending:
        stage.fire()
    assert " ".join(stage.codes) == SAID
    assert stage.conversation.contents == [b"first\r\n.dot\r\n"]
    assert stage.dialogue.closing == "quit"
    assert not stage.faults


@pytest.mark.parametrize(
    ("trouble", "code", "enhanced"),
    [
        (StorageFull("disk"), 452, "4.3.1"),
        (Unavailable("spool"), 451, "4.3.0"),
        (KeyError("a fault"), 451, "4.3.0"),
    ],
)
def test_storage_trouble_is_said_after_the_final_dot(trouble: Exception, code: int, enhanced: str) -> None:
    conversation = FakeConversation()
    conversation.write_trouble = trouble
    stage = Stage(conversation)
    stage.say(ENVELOPE)
    stage.say(b"text\r\n")
    stage.say(b"MAIL FROM:<evil@c.example>\r\n")
    assert stage.codes[-1] == "354"
    stage.say(b".\r\nNOOP\r\n")
    assert stage.codes[-2:] == [str(code), "250"]
    assert enhanced.encode() in stage.dialogue.outgoing[-2]
    assert conversation.told == [("refused", "DATA", code), ("reset",)]
    assert conversation.drafts[0].discarded
    assert [error for _, error in stage.faults] == [trouble]
    assert conversation.contents == []


def test_trouble_at_the_end_of_a_draft() -> None:
    conversation = FakeConversation()
    stage = Stage(conversation)
    stage.say(ENVELOPE + b"text\r\n")
    conversation.drafts[0].trouble = StorageFull("disk")
    stage.say(b".\r\n")
    assert stage.codes[-1] == "452"


def test_no_draft_no_354() -> None:
    conversation = FakeConversation()
    conversation.draft_trouble = Unavailable("spool")
    stage = Stage(conversation)
    stage.say(ENVELOPE + b"RSET\r\n")
    assert stage.codes[-2:] == ["451", "250"]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("late", [False, True])
def test_a_question_that_fails_is_451(question: str, late: bool) -> None:
    conversation = FakeConversation({question: ValueError("a fault")}, frozenset({question} if late else ()))
    stage = Stage(conversation)
    if late and question == "connected":
        stage.fire()
    stage.say(ENVELOPE)
    if conversation.pending:
        stage.fire()
    if question == "content":
        stage.say(b"text\r\n.\r\n")
        if late:
            stage.fire()
    assert "451" in stage.codes
    assert [type(error) for _, error in stage.faults] == [ValueError]
    verb = {"connected": "CONNECT", "hello": "EHLO", "mail": "MAIL", "recipient": "RCPT"}.get(question, "DATA")
    assert conversation.told[0] == ("refused", verb, 451)


def test_an_answer_may_come_without_any_waiting() -> None:
    class Plain(FakeConversation):
        def mail(self, *_: Any) -> Any:
            return Reply(250, "2.1.0", "at once")

        def recipient(self, *_: Any) -> Any:
            raise ValueError("before there is anything to wait for")

    stage = Stage(Plain())
    stage.say(ENVELOPE)
    assert " ".join(stage.codes) == "220 250 250 451 554"


def test_a_conversation_that_cannot_record_a_refusal() -> None:
    class Broken(FakeConversation):
        def refused(self, verb: str, reply: Reply) -> Reply:
            raise ValueError

        def reset(self) -> None:
            raise ValueError

    stage = Stage(Broken())
    stage.say(b"NONSENSE\r\nRSET\r\nGET / HTTP/1.0\r\n")
    assert " ".join(stage.codes) == "220 500 250 554"
    assert stage.dialogue.closing == "limit"
    assert len(stage.faults) == 3


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b"\r\r\n"])
@pytest.mark.parametrize("dot", [b".", b"..", b"\0."])
@pytest.mark.parametrize("before", [b"\n", b"\r", b"\n\r", b"\0", b"\n\n"])
def test_a_message_hidden_in_another_is_never_one(before: bytes, dot: bytes, end: bytes) -> None:
    hidden = b"MAIL FROM:<evil@c.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\nhidden\r\n"
    octets = ENVELOPE + b"text" + before + dot + end + hidden + b".\r\n"
    for step in (1, len(octets)):
        stage = Stage(FakeConversation())
        for at in range(0, len(octets), step):
            stage.say(octets[at : at + step])
        assert " ".join(stage.codes) == "220 250 250 250 354 554"
        assert stage.conversation.contents == []


@pytest.mark.parametrize("length", [1025, 17_000, 1_000_000])
def test_a_long_body_line_arrives_as_sent(length: int) -> None:
    stage = Stage(FakeConversation())
    line = b"x" * length + b"\r\n"
    octets = ENVELOPE + line + b".\r\nNOOP\r\n"
    for at in range(0, len(octets), 65536):
        stage.say(octets[at : at + 65536])
    assert stage.codes[-2:] == ["250", "250"]
    assert stage.conversation.contents == [line]


def test_what_is_too_large_is_not_kept() -> None:
    conversation = FakeConversation()
    stage = Stage(conversation, SmtpSettings(max_message_size=1000))
    stage.say(ENVELOPE)
    for _ in range(100):
        stage.say(b"y" * 600)
    assert sum(map(len, conversation.drafts[0].chunks)) <= 1000
    assert conversation.drafts[0].discarded
    stage.say(b"\r\n.\r\n")
    assert stage.codes[-1] == "552"


def test_stopping_finishes_what_is_under_way() -> None:
    stage = Stage(FakeConversation(slow=frozenset({"content"})))
    stage.say(ENVELOPE)
    stage.dialogue.stop()
    stage.say(b"text\r\n.\r\nMAIL FROM:<>\r\n")
    assert stage.codes[-1] == "354"
    stage.fire()
    assert stage.codes[-2:] == ["250", "421"]
    assert stage.dialogue.closing == "stopping"


def test_stopping_before_content_begins() -> None:
    stage = Stage(FakeConversation(slow=frozenset({"data"})))
    stage.say(ENVELOPE)
    stage.dialogue.stop()
    stage.fire()
    assert stage.codes[-1] == "421"
    assert stage.conversation.drafts == []


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (Reply(250, "2.0.0", "OK"), b"250 2.0.0 OK\r\n"),
        (Reply(354, "", "Go on"), b"354 Go on\r\n"),
        (Reply(550, "5.7.1", "one\ntwo"), b"550-5.7.1 one\r\n550 5.7.1 two\r\n"),
        (Reply(550, "5.7.1", "one\r\n250 two"), b"550-5.7.1 one?\r\n550 5.7.1 250 two\r\n"),
        (Reply(550, "5.7.1", "ü\0\x1b"), b"550 5.7.1 ???\r\n"),
        (Reply(250, "", "a\nb"), b"250-a\r\n250 b\r\n"),
        (Reply(250, "", ""), b"250 \r\n"),
    ],
)
def test_replies_on_the_wire(reply: Reply, octets: bytes) -> None:
    assert written(reply) == octets


def test_a_long_reply_keeps_every_line_short_and_its_last_word() -> None:
    lines = written(Reply(550, "5.7.1", "word " * 300 + "id0123456789")).split(b"\r\n")
    assert all(len(line) <= 510 for line in lines)
    assert lines[-2].startswith(b"550 5.7.1 ")
    assert lines[-2].endswith(b" id0123456789")


def test_what_is_asked_for_by_rfc_3461_reaches_the_conversation_and_nothing_is_made_up() -> None:
    stage = Stage(FakeConversation())
    stage.say(b"EHLO c.example\r\nMAIL FROM:<a@c.example> RET=hdrs ENVID=Q+2B1\r\n")
    stage.say(b"RCPT TO:<b@d.example> NOTIFY=never ORCPT=rfc822;B@d.example\r\nRCPT TO:<c@d.example>\r\n")
    stage.say(b"RSET\r\nMAIL FROM:<> ENVID=x\r\nRSET\r\nMAIL FROM:<>\r\n")
    asked = [question for question in stage.conversation.asked if question[0] in ("mail", "recipient")]
    envelopes = [question[1] for question in asked if question[0] == "mail"]
    assert [(each.ret, each.envid) for each in envelopes] == [("HDRS", "Q+2B1"), ("", "x"), ("", "")]
    assert [question[2:] for question in asked if question[0] == "recipient"] == [
        (("notify", "NEVER"), ("original", "rfc822;B@d.example")),
        (),
    ]
