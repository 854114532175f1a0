"""What rspamd is told, and what its score becomes."""

from __future__ import annotations

from typing import Any

import pytest

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.rspamd import Rspamd
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import MB, Settings
from inboundmx.ports import TooLarge
from inboundmx.prompt import promptly

OPTIONS: dict[str, Any] = {option.name: option.default for option in Rspamd.options}
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
MESSAGE = Message("m1", Body(len(MAIL), MAIL, None, b""))
ANN, BOB = Address("ann", "here.example"), Address("bob", "here.example")


class Scorer:
    def __init__(self, says: Any) -> None:
        self.says = says
        self.made: Any = None
        self.told: Any = None

    def rspamd(self, *arguments: Any) -> Scorer:
        self.made = arguments
        return self

    async def score(self, body: Body, facts: Any) -> Any:
        self.told = facts
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def found(says: Any, session: Session, sender: Address | None = None, **options: Any) -> tuple[Any, Scorer]:
    scorer = Scorer(says)
    nothing: Any = None
    given: Any = scorer
    tools = Tools(Settings(), nothing, nothing, nothing, given, nothing, nothing, nothing, 7.0)
    case = Case(session, Envelope(sender, (ANN, BOB)), None, MESSAGE)
    came: list[Any] = []
    check = Rspamd(OPTIONS | options, tools)
    assert promptly(check.examine(case), came.append, lambda failure: came.append(failure.value)) is None
    return came[0], scorer


STRANGER = Session("s", "192.0.2.9", 4000, "192.0.2.25", 0.0, "mail.stranger.example", True)


@pytest.mark.parametrize(
    ("score", "word"),
    [(-9.0, "none"), (3.9, "none"), (4.0, "low"), (6.0, "medium"), (14.9, "medium"), (15.0, "high")],
)
def test_words_and_points(score: float, word: str) -> None:
    assert found((score, ("A", "B")), STRANGER)[0] == Finding(word, f"score {score:g} A B")
    assert found((score, ()), STRANGER, factor=2.0)[0] == Finding(word, f"score {score:g}", points=2 * score)


def test_what_it_is_told() -> None:
    _, scorer = found((0.0, ()), STRANGER)
    assert scorer.told == [
        ("IP", "192.0.2.9"), ("Helo", "mail.stranger.example"), ("From", "<>"),
        ("Rcpt", "<ann@here.example>"), ("Rcpt", "<bob@here.example>"), ("Queue-Id", "m1"),
    ]  # fmt: skip
    named = Session("s", "192.0.2.9", 4000, "", 0.0, "x", reverse_name="mail.stranger.example", authenticated_as="joe")
    _, scorer = found((0.0, ()), named, Address("joe", "stranger.example"))
    assert scorer.told[2:5] == [
        ("Hostname", "mail.stranger.example"), ("User", "joe"), ("From", "<joe@stranger.example>"),
    ]  # fmt: skip
    assert scorer.made == (("tcp:127.0.0.1:11333",), MB, 2, 10, 7.0, "")


def test_a_large_message_is_none() -> None:
    assert found(TooLarge(), STRANGER)[0] == Finding("none", f"{len(MAIL)} octets were not looked at")


def test_thresholds_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="must ascend"):
        Rspamd(OPTIONS | {"low": 7.0})
