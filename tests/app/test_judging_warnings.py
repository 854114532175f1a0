"""What may not be meant of levels, thresholds and recipients is said, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboundmx.app.judging_warnings import of_judging
from inboundmx.app.settings import BadSettings, load

DOMAIN = "[gateway]\nhostname = mx.a.example\n[domain a.example]\nprimary = 192.0.2.1\n"
PILLS = "[check pills]\nuse = headers\nheader = Subject\nvalue = pills\ncounts_for = filtering blocking\n"
GONE = "mail that nothing speaks against is"


def warned(folder: Path, *sections: str) -> list[str]:
    path = folder / "in.ini"
    path.write_text(DOMAIN + "".join(sections))
    return of_judging(load(str(path)))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ("", []),
        ("level.high.action = quarantine\n", []),
        ("[level none]\naction = discard\n", [f"[level none] action: {GONE} discarded"]),
        ("[level none]\noutgoing_action = reject\n", [f"[level none] outgoing_action: {GONE} refused"]),
        ("[level low]\nthreshold = -5\naction = reject\n", [f"[level low] action: {GONE} refused"]),
        ("[level none]\naction = reject\n[level low]\nthreshold = 0\n", []),
        ("level.none.action = discard\n", [f"[domain a.example] level.none.action: {GONE} discarded"]),
        ("[blocking]\nincoming_threshold = 0\n", []),
        (f"{PILLS}[blocking]\nincoming_threshold = 0\n", [f"[blocking] incoming_threshold = 0: {GONE} refused"]),
        (f"{PILLS}[blocking]\noutgoing_threshold = -1\n", [f"[blocking] outgoing_threshold = -1: {GONE} refused"]),
        (
            f"blocking.incoming_threshold = 0\n{PILLS}",
            [f"[domain a.example] blocking.incoming_threshold = 0: {GONE} refused"],
        ),
        ("[recipients x]\nmatch = ann@a.example a.example *@a.example sales@*\n", []),
        (
            "[recipients x]\nmatch = ann@b.example bob\n",
            [
                "[recipients x] match = ann@b.example: there is no [domain b.example]",
                "[recipients x] match = *@bob: there is no [domain bob]",
            ],
        ),
        ("[recipients x]\nmatch = ann@b.example\n[backup]\nprimaries = 192.0.2.9\n", []),
    ],
)
def test_what_may_not_be_meant_is_said(tmp_path: Path, sections: str, said: list[str]) -> None:
    assert warned(tmp_path, sections) == said


@pytest.mark.parametrize(
    ("sections", "wrong"),
    [
        ('[level low]\naction = header "From: x@a.example"\n', "From is not for an action to add"),
        ('[level low]\naction = header "X-Spam-Score: 0"\n', "X-Spam-Score is not for an action to add"),
        ('[level low]\naction = header "authentication-results: a; none"\n', "is not for an action to add"),
        ('[level low]\noutgoing_action = header "Content-Type: text/html"\n', "is not for an action to add"),
        ('[level low]\naction = reject "5.7.1 spam"\n', "needs no code"),
        ('[level low]\naction = reject "550 spam"\n', "needs no code"),
        ("blocking.outgoing_threshold = 5\n", "there is no key blocking.outgoing_threshold here"),
        (
            "[causes]\nexcept = pils\n" + PILLS,
            "pils is neither a [check …] nor low, medium or high; did you mean pills?",
        ),
        ("[causes]\nexcept = none\n", "none is neither"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, sections: str, wrong: str) -> None:
    with pytest.raises(BadSettings, match=wrong.replace("[", r"\[").replace("?", r"\?")):
        warned(tmp_path, sections)


def test_fields_of_ones_own_and_causes_that_there_are_pass(tmp_path: Path) -> None:
    high = '[level high]\naction = reject "5 bad words, 1000 reasons"\n'
    spam = '[level low]\naction = header "X-Spam: yes", header "X-Spam-Flag: YES", header "List-Id: x"\n'
    assert warned(tmp_path, high, spam, "[causes]\nexcept = low pills\n", PILLS) == []
