"""The bayes check: four outcomes, and when it is asked in a thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from fakes.checks import FakeContents, FakeOffload, examined, tools

from inboundmx.checks.api import Case
from inboundmx.checks.bayes import AT_ONCE, Bayes
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import SMALL_BODY, Body, Message
from inboundmx.model.session import Session
from inboundmx.ports import Unavailable

DEFAULTS = {option.name: option.default for option in Bayes.options}


class Words:
    """A vocabulary, and what it has learned: bad words, good words."""

    def __init__(self, spam: int = 200, ham: int = 200) -> None:
        self.spam, self.ham = spam, ham

    async def learned(self) -> Any:
        return self if self.spam + self.ham else None

    def counts(self, words: Iterable[str]) -> list[tuple[int, int]]:
        known = {"bad": (50, 0), "good": (0, 50), "usual": (50, 50)}
        return [known[kind] for word in words if (kind := word.rstrip("0123456789")) in known]


class Broken:
    async def learned(self) -> Any:
        raise Unavailable("bayes.model: damaged")


def examine(words: str, vocabulary: Any = None, **options: Any) -> tuple[Finding, int]:
    octets = b"Subject: x\r\n\r\n" + words.encode()
    message = Message("m", Body(len(octets), octets, None, b""))
    given = replace(tools(), vocabulary=vocabulary or Words())
    case = Case(Session("s", "192.0.2.1", 4000, "192.0.2.25", 0.0), Envelope(None), None, message)
    found = examined(Bayes({**DEFAULTS, **options}, given), case)
    offload = given.offload
    assert isinstance(offload, FakeOffload)
    return found, offload.runs


BAD, GOOD = (" ".join(f"{word}{number}" for number in range(10)) for word in ("bad", "good"))


@pytest.mark.parametrize(
    ("words", "outcome"),
    [(BAD, "spam"), (GOOD, "ham"), (f"{BAD} {GOOD}", "unsure"), ("usual1 usual2", "unsure"), ("", "unsure"),
     (f"<b>{BAD}", "spam")],
)  # fmt: skip
def test_outcomes(words: str, outcome: str) -> None:
    found, runs = examine(words)
    assert (found.outcome, runs, found.points) == (outcome, 0, 0.0)


def test_the_detail_says_how_sure_it_is() -> None:
    assert examine(BAD)[0].detail == "1.0000 by 10 words"
    assert examine("")[0].detail == "0.5000 by 0 words"


@pytest.mark.parametrize("vocabulary", [Words(0, 0), Words(99, 500), Words(500, 99)])
def test_too_little_was_learned(vocabulary: Words) -> None:
    found, _ = examine(BAD, vocabulary)
    assert found.outcome == "untrained" and str(vocabulary.spam) in found.detail


def test_much_text_is_judged_in_a_thread() -> None:
    found, runs = examine(BAD + " usual" * (AT_ONCE // 4))
    assert (found.outcome, runs) == ("spam", 1)


def test_thresholds() -> None:
    assert examine("bad1", spam=0.6)[0].outcome == "spam"
    assert examine("bad1", spam=1.0)[0].outcome == "unsure"
    for spam, ham in ((0.5, 0.2), (1.1, 0.2), (0.9, 0.5), (0.9, -0.1)):
        with pytest.raises(ValueError, match="ham must be below"):
            Bayes({**DEFAULTS, "spam": spam, "ham": ham})


def test_words_that_cannot_be_read() -> None:
    with pytest.raises(Unavailable, match="damaged"):
        examine(BAD, Broken())


def test_a_large_message_is_walked_once() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + BAD.encode()
        + b"\r\n--b\r\nContent-Type: image/png\r\n\r\n" + b"x" * SMALL_BODY + b"\r\n--b--\r\n"
    )  # fmt: skip
    given = replace(tools(), vocabulary=Words())
    contents, offload = given.contents, given.offload
    assert isinstance(contents, FakeContents) and isinstance(offload, FakeOffload)
    contents.files["large"] = octets
    message = Message("m", Body(len(octets), octets[:SMALL_BODY], "large", b""))
    case = Case(Session("s", "192.0.2.1", 4000, "192.0.2.25", 0.0), Envelope(None), None, message)
    assert examined(Bayes(DEFAULTS, given), case).outcome == "spam"
    # The walk, and the text of what it found.
    assert offload.runs == 2
