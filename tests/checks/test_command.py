"""A program's exit status as a word, its number as points, and command lines that are none."""

from __future__ import annotations

from typing import Any

import pytest

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.command import ARGUMENTS, Command
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.ports import SPAM_SCORE_LIMIT, Ran
from inboundmx.prompt import promptly

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
MESSAGE = Message("m1", Body(len(MAIL), MAIL, None, b""))
SESSION = Session("s", "192.0.2.9", 4000, "192.0.2.25", 0.0, "mail.stranger.example", True)
OPTIONS: dict[str, Any] = {option.name: option.default for option in Command.options} | {
    "command": "/usr/bin/clamscan --no-summary '%filepath'",
    "exit.N": ((0, "clean"), (1, "infected"), (3, "error")),
}


class Programs:
    def __init__(self, ran: Ran) -> None:
        self.ran = ran
        self.made: Any = None
        self.asked: Any = None

    def program(self, *arguments: Any) -> Programs:
        self.made = arguments
        return self

    async def run(self, *arguments: Any) -> Ran:
        self.asked = arguments
        return self.ran


class Clock:
    def now(self) -> float:
        return 1_800_000_000.0


def found(
    status: int = 0, said: str = "", copy: bytes = b"", sender: Address | None = None, **options: Any
) -> tuple[Finding, Programs]:
    programs = Programs(Ran(status, said, copy))
    nothing: Any = None
    given: Any = programs
    clock: Any = Clock()
    settings = Settings(gateway=GatewaySettings(hostname="mx.gateway.example"))
    tools = Tools(settings, clock, nothing, nothing, given, nothing, nothing, nothing, 7.0)
    came: list[Any] = []
    check = Command(OPTIONS | options, tools)
    case = Case(SESSION, Envelope(sender, (Address("user", "here.example"),)), None, MESSAGE)
    assert promptly(check.examine(case), came.append, came.append) is None
    return came[0], programs


@pytest.mark.parametrize(
    ("status", "said", "finding"),
    [
        (0, "", Finding("clean", "exit 0")),
        (1, "\n\n message.eml: Eicar FOUND\nmore\n", Finding("infected", "exit 1 message.eml: Eicar FOUND")),
        (2, "no database", Finding("error", "exit 2 no database")),
        (3, "", Finding("error", "exit 3")),
        (-9, "", Finding("error", "ended by signal 9")),
    ],
)
def test_what_a_status_means(status: int, said: str, finding: Finding) -> None:
    assert found(status, said)[0] == finding


def test_what_the_program_is_given() -> None:
    _, programs = found(sender=Address("-rf", "stranger.example"))
    assert programs.made == (["/usr/bin/clamscan", "--no-summary", "%filepath"], 4, 7.0)
    body, prefix, words, field = programs.asked
    assert body is MESSAGE.body
    assert prefix.startswith(b"Received: from mail.stranger.example ([192.0.2.9])\r\n")
    assert words == {"sender": "<-rf@stranger.example>", "ip": "192.0.2.9", "id": "m1"}
    assert field == ""
    assert found()[1].asked[2]["sender"] == "<>"


@pytest.mark.parametrize(
    ("copy", "finding"),
    [
        (b"X-Score: 12.5\r\n\r\n", Finding("clean", "score 12.5, exit 0", points=25.0)),
        (b"x-score: 1\r\nX-Score: -3\r\n\r\n", Finding("clean", "score -3, exit 0", points=-6.0)),
        (b"Subject: x\r\n\r\nX-Score: 5\r\n", Finding("clean", "no X-Score, exit 0")),
        (b"", Finding("clean", "no X-Score, exit 0")),
        (b"X-Score: nan\r\n\r\n", Finding("error", "X-Score is no proper number, exit 0")),
        (b"X-Score: 10001\r\n\r\n", Finding("error", "X-Score is no proper number, exit 0")),
    ],
)
def test_a_score_in_its_copy(copy: bytes, finding: Finding) -> None:
    came, programs = found(copy=copy, score_header="X-Score", factor=2.0)
    assert came == finding
    # The sender's own field of that name is not in the copy to begin with.
    assert programs.asked[3] == "X-Score"
    assert Command(OPTIONS | {"score_header": "X-Score", "factor": -2.0}).most_points == 2 * SPAM_SCORE_LIMIT
    assert Command(OPTIONS).most_points == 0.0


def test_words() -> None:
    assert Command.words(OPTIONS) == {"clean", "infected", "error"}
    assert Command.words(OPTIONS | {"exit.N": ((0, "none"), (1, "none"), (2, "spam"))}) == {"none", "spam"}


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("clamscan %filepath", "whole path"),
        ("", "whole path"),
        ("/usr/bin/clamscan", "names no %filepath"),
        ("/usr/bin/clamscan '%filepath", "cannot be split"),
        ("/usr/bin/clamscan %filepath" + " x" * ARGUMENTS, "more than 50"),
    ],
)
def test_what_is_no_command(command: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Command(OPTIONS | {"command": command})


def test_capitals_do_not_matter() -> None:
    Command(OPTIONS | {"command": "/opt/av/scan /f:%FILEPATH"})
