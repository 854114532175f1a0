"""``[check …]`` of a program: keys with a number, the words they make, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboundmx.app.calling_scanners import call_scanners
from inboundmx.app.effective import effective
from inboundmx.app.settings import BadSettings, load
from inboundmx.model.settings import Settings

BASE = "[check av]\nuse = command\ncommand = /bin/true --x='a b' %filepath\n"


def settings(folder: Path, text: str) -> Settings:
    (folder / "in.ini").write_text(text)
    return load(str(folder / "in.ini"))


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        settings(folder, text)
    return [str(problem).partition(": ")[2] for problem in bad.value.problems]


def test_words_and_weights(tmp_path: Path) -> None:
    text = BASE + "exit.0 = clean\nEXIT.1 = infected\nexit.40 = clean\nweight.clean = -1\n"
    [check] = settings(tmp_path, text).checks
    assert check.options["exit.N"] == ((0, "clean"), (1, "infected"), (40, "clean"))
    assert check.weights == {"clean": -1.0, "infected": "reject", "error": 0.0, "timeout": 0.0}
    [spam] = settings(tmp_path, BASE + "exit.0 = ham\nexit.1 = spam\nweight.spam = 5\n").checks
    # Nothing is refused for a word that it never says.
    assert spam.weights == {"ham": 0.0, "spam": 5.0, "error": 0.0, "timeout": 0.0}


def test_it_is_shown_as_it_is_written(tmp_path: Path) -> None:
    made = settings(tmp_path, BASE + "exit.0 = clean\nexit.1 = infected\nscore_header = X-Score\n")
    shown = effective(made)["check av"]
    assert (shown["exit.0"], shown["exit.1"], shown["score_header"]) == ("clean", "infected", "X-Score")
    again = "[check av]\n" + "".join(f"{key} = {value}\n" for key, value in shown.items())
    assert settings(tmp_path, again).checks == made.checks


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "exit.N is missing"),
        ("exit.0 =\n", "nothing is no word"),
        ("exit.0 = Clean!\n", "Clean! is no word"),
        ("exit.256 = x\nexit.0 = x\n", "there is no key exit.256"),
        ("exit.00 = x\nexit.0 = x\n", "there is no key exit.00"),
        # A digit three, of another script.
        ("exit.\u0663 = x\nexit.0 = x\n", "there is no key exit.\u0663"),
        ("exit.N = x\n", "there is no key exit.n"),
        ("exit.0 = x\nscore_header = X Score\n", "X Score is no name of a header field"),
        ("exit.0 = x\nweight.infected = 5\n", "no outcome infected"),
    ],
)
def test_what_is_wrong(tmp_path: Path, more: str, said: str) -> None:
    assert any(said in problem for problem in problems(tmp_path, BASE + more))


def test_a_command_line_that_is_none(tmp_path: Path) -> None:
    text = "[check av]\nuse = command\ncommand = scan %filepath\nexit.0 = x\n"
    assert problems(tmp_path, text) == ["[check av]: command must begin with the whole path of a program"]


def test_passwords_of_checks_are_hidden(tmp_path: Path) -> None:
    made = settings(tmp_path, "[check r]\nuse = rspamd\npassword = very secret\n")
    assert made.checks[0].options["password"] == "very secret"
    assert effective(made)["check r"]["password"] == "(hidden)"


@pytest.mark.parametrize(
    ("make", "answered", "detail"),
    [("none", False, "is not there"), ("file", False, "cannot be run"), ("folder", False, "cannot be run"),
     ("program", True, "can be run")],
)  # fmt: skip
def test_check_says_whether_it_can_be_run(tmp_path: Path, make: str, answered: bool, detail: str) -> None:
    path = tmp_path / "scan"
    if make == "folder":
        path.mkdir()
    elif make != "none":
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755 if make == "program" else 0o600)
    made = settings(tmp_path, f"[check av]\nuse = command\ncommand = {path} %filepath\nexit.0 = x\n")
    [call] = call_scanners(made.checks)
    assert (call.check, call.server, call.answered, call.detail) == ("av", str(path), answered, detail)
