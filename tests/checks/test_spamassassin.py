"""What SpamAssassin is told, and what its score becomes."""

from __future__ import annotations

from typing import Any

import pytest

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.spamassassin import SpamAssassin
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.ports import SPAM_SCORE_LIMIT, TooLarge, Unavailable
from inboundmx.prompt import promptly

OPTIONS: dict[str, Any] = {option.name: option.default for option in SpamAssassin.options}
MAIL = b"X-Spam-Checks: x\r\nSubject: hello\r\n\r\nhello\r\n"
MESSAGE = Message("m1", Body(len(MAIL), MAIL, None, b""))
SESSION = Session("s", "192.0.2.9", 4000, "192.0.2.25", 0.0, "client.stranger.example", True)


class Scorer:
    def __init__(self, says: Any) -> None:
        self.says = says
        self.made: Any = None
        self.asked: list[Any] = []

    def spam(self, *arguments: Any) -> Scorer:
        self.made = arguments
        return self

    async def score(self, body: Body, prefix: bytes) -> Any:
        self.asked.append((body, prefix))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Clock:
    def now(self) -> float:
        return 1_800_000_000.0


def found(says: Any, session: Session = SESSION, **options: Any) -> tuple[Any, Scorer]:
    """What came of it, a Finding or an error; and what was asked."""
    scorer = Scorer(says)
    nothing: Any = None
    settings = Settings(gateway=GatewaySettings(hostname="mx.gateway.example"))
    tools = Tools(settings, Clock(), nothing, nothing, scorer, nothing, nothing, nothing, 7.0)  # type: ignore[arg-type]
    check = SpamAssassin(OPTIONS | options, tools)
    case = Case(session, Envelope(None, (Address("user", "here.example"),)), None, MESSAGE)
    came: list[Any] = []
    assert promptly(check.examine(case), came.append, lambda failure: came.append(failure.value)) is None
    return came[0], scorer


@pytest.mark.parametrize(
    ("score", "word"),
    [
        (-100.0, "none"), (-0.0, "none"), (4.9, "none"), (5.0, "low"), (7.9, "low"), (8.0, "medium"), (11.9, "medium"),
        (12.0, "high"), (1005.2, "high"),
    ],
)  # fmt: skip
def test_words(score: float, word: str) -> None:
    finding, _ = found((score, ()))
    assert finding.outcome == word
    assert finding.points == 0.0


def test_what_is_shown() -> None:
    assert found((1005.2, ("GTUBE", "NO_RELAYS")))[0].detail == "score 1005.2 GTUBE NO_RELAYS"
    assert found((0.0, ()))[0].detail == "score 0"
    many = found((1.0, tuple(f"RULE_{n}" for n in range(100))))[0].detail
    assert many.startswith("score 1 RULE_0 RULE_1 ") and many.endswith(" RULE_19")


@pytest.mark.parametrize(("factor", "points"), [(1.0, 7.3), (0.5, 3.65), (-1.0, -7.3), (0.0, 0.0)])
def test_its_own_score_may_be_added(factor: float, points: float) -> None:
    finding, _ = found((7.3, ()), factor=factor)
    assert finding == Finding("low", "score 7.3", points=pytest.approx(points))
    assert SpamAssassin(OPTIONS | {"factor": factor}).most_points == abs(factor) * SPAM_SCORE_LIMIT


def test_a_large_message_is_none() -> None:
    assert found(TooLarge())[0] == Finding("none", f"{len(MAIL)} octets were not looked at")


def test_trouble_is_left_to_the_runner() -> None:
    assert isinstance(found(Unavailable("spamd is busy"))[0], Unavailable)


def test_it_is_told_where_the_message_came_from() -> None:
    _, scorer = found((0.0, ()))
    assert scorer.made == (("tcp:127.0.0.1:783",), 256 * 1024, 2, 2, 7.0)
    [(body, prefix)] = scorer.asked
    assert body is MESSAGE.body
    assert prefix == (
        b"Received: from client.stranger.example ([192.0.2.9])\r\n"
        b"\tby mx.gateway.example with ESMTP id m1;\r\n"
        b"\tFri, 15 Jan 2027 08:00:00 +0000\r\n"
    )


def test_nothing_a_stranger_says_gets_out_of_that_line() -> None:
    hostile = Session("s", "2001:db8::9", 4000, "192.0.2.25", 0.0, "a\r\nX-Spam: no\r\n\r\n(b", False)
    _, scorer = found((0.0, ()), hostile)
    [(_, prefix)] = scorer.asked
    assert prefix.count(b"\r\n") == prefix.count(b"\n") == prefix.count(b"\r\n\t") + 1
    assert b"[IPv6:2001:db8::9]" in prefix


@pytest.mark.parametrize("wrong", [{"low": 9.0}, {"medium": 13.0}, {"high": 1.0}])
def test_thresholds_that_do_not_ascend_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must ascend"):
        SpamAssassin(OPTIONS | wrong)
