"""Everything a fuzzer has found worth telling is told again, and what it looks for would be seen.

The corpora hold inputs that reach something no other does, and those that broke something once. ``fuzz.py`` looks for
more.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from fuzz import CORPUS, TARGETS  # noqa: E402

from inboundmx.intake.acceptance import Acceptance  # noqa: E402
from inboundmx.model.custody import Content  # noqa: E402
from inboundmx.model.reply import Reply  # noqa: E402
from inboundmx.smtp import client_transaction, dialogue, framing  # noqa: E402
from inboundmx.smtp.client_connection import SmtpConnection  # noqa: E402

# All corpora together, so that the tree stays small.
KILOBYTES = 300


@pytest.mark.parametrize("target", TARGETS)
def test_every_story_is_told_again(target: str) -> None:
    module = importlib.import_module(target)
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        octets = path.read_bytes()
        assert len(octets) <= 4096
        try:
            module.one(octets)
        except Exception as error:
            raise AssertionError(f"{path.relative_to(HERE)}: {error}") from error


def test_the_corpora_are_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < KILOBYTES * 1024


# --- each kind of fault, planted: a story that is there already shows it ----------------------------------------------


def seen(target: str, *stories: str) -> bool:
    module = importlib.import_module(target)
    for story in stories:
        try:
            module.one((CORPUS / target / story).read_bytes())
        except AssertionError:
            return True
    return False


def test_a_lenient_end_of_content(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lenient(framing.ContentReader):
        def feed(self, data: bytes) -> bytes:
            return super().feed(data.replace(b"\n.\n", b"\r\n.\r\n"))

    monkeypatch.setattr(dialogue, "ContentReader", Lenient)
    assert seen("strange_client", "smuggled")


def test_a_promise_without_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def promise(self: Any, verdict: Any, handover: Any) -> Any:
        return Reply(250, "2.0.0", f"accepted as {verdict.arrival.message.id}"), False

    monkeypatch.setattr(Acceptance, "_promise", promise)
    assert seen("strange_client", "late-disk")


def test_a_refusal_for_good_of_what_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "_FAULT", Reply(554, "5.3.0", "no"))
    monkeypatch.setattr(dialogue, "_FULL", Reply(554, "5.3.0", "no"))
    assert seen("strange_client", "no-room-while-it-comes")


def test_an_answer_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def noop(self: Any, command: Any) -> None:
        self._say(dialogue._OK)
        self._say(dialogue._OK)

    monkeypatch.setitem(dialogue._ANSWERS, dialogue.Noop, noop)
    assert seen("strange_client", "small-talk")


def test_a_line_left_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dialogue._ANSWERS, dialogue.Vrfy, lambda self, command: None)
    assert seen("strange_client", "small-talk")


def test_what_was_said_before_tls_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction goes on in the name of what was said in the clear."""
    secured = dialogue._with
    monkeypatch.setattr(
        dialogue, "_with", lambda session, hello, extended, tls: secured(session, hello or "kept", extended, tls)
    )
    assert seen("strange_client", "tls-without-a-second-hello")


def test_delivered_by_an_answer_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def send_all(self: Any, pieces: Any, seconds: float) -> None:
        self.wait(seconds)
        self.transport.write(b"".join(pieces))

    monkeypatch.setattr(SmtpConnection, "send_all", send_all)
    monkeypatch.setattr(SmtpConnection, "silent", True)
    assert seen("strange_primary", "early")


def test_a_dot_that_is_not_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        client_transaction, "small_content", lambda content: [content.prefix, content.body.head, b".\r\n"]
    )
    assert seen("strange_primary", "dots")


def test_a_wait_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmtpConnection, "wait", lambda self, seconds: None)
    assert seen("strange_primary", "silent-after-the-dot")


def test_a_forged_stamp_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    letter = importlib.import_module("strange_letter")
    stamp = letter.stamp

    def lazy(*arguments: Any) -> Content:
        content = stamp(*arguments)
        ours = content.prefix[: content.prefix.index(b"X-Spam-Checks")]
        return Content(ours + b"X-Spam-Checks: x\r\n", 0, content.body)

    monkeypatch.setattr(letter, "stamp", lazy)
    assert seen("strange_letter", "forged")
