"""The walk is made once for a message, in a thread where it is large, and not kept longer than the message."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from inboundmx.checks import walking
from inboundmx.checks.api import Case, Tools
from inboundmx.checks.reading import read
from inboundmx.checks.walking import AT_ONCE, walked
from inboundmx.model.envelope import Envelope
from inboundmx.model.message import SMALL_BODY, Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import Settings
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

PARTS = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 300 + b"--b--\r\n"


class Threads:
    """An Offload whose work is done when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.jobs.append((done, work, arguments))
        return done

    def finish(self) -> None:
        done, work, arguments = self.jobs.pop(0)
        done.callback(work(*arguments))


class Files:
    """Contents of one large body."""

    def __init__(self, octets: bytes = b"") -> None:
        self.octets = octets

    def whole(self, body: Body) -> bytes:
        return self.octets


def tools(threads: Any, files: Any = None) -> Tools:
    nothing: Any = None
    return Tools(Settings(), nothing, nothing, nothing, nothing, threads, files, nothing)


def case(octets: bytes) -> Case:
    path = None if len(octets) <= SMALL_BODY else "large"
    message = Message("m", Body(len(octets), octets[:SMALL_BODY], path, b""))
    return Case(Session("s", "192.0.2.1", 4000, "192.0.2.25", 0.0), Envelope(None), None, message)


def asked(case: Case, tools: Tools, make: Any = walked) -> tuple[list[Any], Deferred[Any] | None]:
    came: list[Any] = []
    return came, promptly(make(case, tools), came.append, lambda failure: came.append(failure.value))


def test_a_small_message_is_walked_at_once_and_only_once() -> None:
    small, threads = case(b"\r\nhello"), Threads()
    [[first], _], [[second], _] = asked(small, tools(threads)), asked(small, tools(threads))
    assert first is second and first.parts[0].type == "text/plain"
    assert not threads.jobs


@pytest.mark.parametrize("octets", [PARTS, b"\r\n" + b"x" * AT_ONCE])
def test_one_with_much_in_it_is_walked_in_a_thread_once_for_all(octets: bytes) -> None:
    asking, threads = case(octets), Threads()
    (first, _), (second, _) = asked(asking, tools(threads)), asked(asking, tools(threads))
    assert not first and not second and len(threads.jobs) == 1
    threads.finish()
    assert first[0] is second[0] and first[0].complete
    assert asked(asking, tools(threads))[0] == first and not threads.jobs


def test_a_large_body_is_read_and_not_kept() -> None:
    octets = b"\r\n" + b"x" * SMALL_BODY + b"end"
    asking, threads = case(octets), Threads()
    came, _ = asked(asking, tools(threads, Files(octets)))
    threads.finish()
    assert came[0].parts[0].source == octets
    assert asking.message not in walking._walks.kept and asking.message not in walking._walks.waiting


def test_one_that_gives_up_leaves_the_walk_to_the_others() -> None:
    asking, threads = case(PARTS), Threads()
    (first, waiting), (second, _) = asked(asking, tools(threads)), asked(asking, tools(threads))
    assert waiting is not None
    waiting.cancel()
    assert isinstance(first[0], CancelledError)
    threads.finish()
    assert len(second[0].parts) == 301


def test_what_cannot_be_read_is_unavailable_to_all_and_asked_anew() -> None:
    asking, threads = case(PARTS), Threads()
    (first, _), (second, _) = asked(asking, tools(threads)), asked(asking, tools(threads))
    threads.jobs.pop()[0].errback(Unavailable("no such file"))
    assert isinstance(first[0], Unavailable) and isinstance(second[0], Unavailable)
    third, _ = asked(asking, tools(threads))
    threads.finish()
    assert third[0].complete


def test_nothing_is_kept_when_the_message_is_gone() -> None:
    gc.collect()
    before = len(walking._walks.kept)
    asking = case(b"\r\nhello")
    assert asked(asking, tools(None))[0]
    assert len(walking._walks.kept) == before + 1
    del asking
    gc.collect()
    assert len(walking._walks.kept) == before


def test_work_that_is_done_at_once_is_told_at_once() -> None:
    class Prompt:
        def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
            return succeed(work(*arguments))

    came, _ = asked(case(PARTS), tools(Prompt()))
    assert came[0].complete


def test_a_large_body_whose_text_is_known_is_not_walked_again() -> None:
    octets = b"\r\nhello " + b"x" * SMALL_BODY
    asking, threads = case(octets), Threads()
    given = tools(threads, Files(octets))
    (first, _), (second, _) = (asked(asking, given, read) for _ in range(2))
    while threads.jobs:
        threads.finish()
    assert first[0] is second[0] and first[0].plain.startswith("hello")
    assert asked(asking, given, read)[0] == first and not threads.jobs
