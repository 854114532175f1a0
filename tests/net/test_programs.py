"""Programs that look at a message: what they are given, how they end, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.checks import FakeContents
from fakes.services import Outcome, body
from twisted.internet.task import Clock

from inboundmx.net.clock import ReactorClock
from inboundmx.net.programs import HEARD, KEPT, THREADS, Programs, filled
from inboundmx.net.servers import FAILURES, PROBE_SECONDS
from inboundmx.ports import Ran

MAIL = b"X-Score: 99\r\nSubject: hello\r\n\r\nhello\r\n"
TRACE = b"Received: from a\r\n"
WORDS = {"sender": "<-x@b.test>", "ip": "192.0.2.9", "id": "m1"}
PATIENCE = 30.0


class Contents(FakeContents):
    def part(self, what: Any, start: int, octets: int) -> bytes:
        return self.files[what.path][start : start + octets]


class Bench:
    """Where programs run; their time is over when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: queue.Queue[Any] = queue.Queue()
        self.reactor = Clock()
        self.clock = ReactorClock(self.reactor)
        self.clock.monotonic = self.reactor.seconds  # type: ignore[method-assign]
        self.contents: Any = Contents()
        self.notes: list[tuple[str, bool, str]] = []
        self.scratch = folder / "scratch"
        self.programs = self.again()

    def again(self) -> Programs:
        put = lambda call, *arguments: self.calls.put((call, arguments))  # noqa: E731
        return Programs(put, self.clock, self.contents, self, str(self.scratch))

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.notes.append((service, well, detail))

    def script(self, text: str) -> str:
        path = self.folder / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def run(self, *argv: str, octets: bytes = MAIL, field: str = "", at_once: int = 2) -> Outcome:
        message = body(octets)
        if message.path is not None:
            self.contents.files[message.path] = octets
        return Outcome(self.programs.program(argv, at_once, 5.0).run(message, TRACE, WORDS, field))

    def ran(self, *argv: str, **more: Any) -> Ran:
        outcome = self.until(self.run(*argv, **more))
        assert isinstance(outcome.value, Ran), outcome.error
        return outcome.value

    def until(self, outcome: Outcome) -> Outcome:
        self.wait_for(lambda: outcome.done)
        return outcome

    def wait_for(self, ready: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            assert time.monotonic() < deadline
            with contextlib.suppress(queue.Empty):
                call, arguments = self.calls.get(timeout=0.01)
                call(*arguments)

    def left(self) -> list[str]:
        return os.listdir(self.scratch) if self.scratch.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    closed: list[Any] = []
    made.programs.close().addBoth(closed.append)
    made.wait_for(lambda: closed)
    assert made.left() == []
    assert made.reactor.getDelayedCalls() == []


def gone(pid: int) -> bool:
    """No such process, or one that only has to be reaped by whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_what_a_program_is_given(bench: Bench) -> None:
    program = bench.script('cat "$1"; echo; env | sort; pwd; id -u; stat -c %a "$1" .; shift; printf "%s|" "$@"')
    bench.scratch.mkdir()
    ran = bench.ran(program, "%filepath", "--from=%SENDER", "%ip;%id", "100%", "%unknown", "$HOME")
    assert ran.status == 0
    first, *rest = ran.said.splitlines()
    assert [first, *rest[:3]] == ["Received: from a", "X-Score: 99", "Subject: hello", ""]
    folder = next(line for line in rest if line.startswith(str(bench.scratch)))
    names = {line.partition("=")[0] for line in rest if "=" in line and "|" not in line}
    assert names - {"_", "SHLVL", "OLDPWD", "PWD"} == {"PATH", "LANG", "HOME", "TMPDIR"}
    assert f"HOME={folder}" in rest
    assert rest[-4:-1] == [str(os.geteuid()), "600", "700"]
    assert rest[-1] == "--from=<-x@b.test>|192.0.2.9;m1|100%|%unknown|$HOME|"
    assert ran.copy == TRACE + MAIL
    assert bench.notes == [(f"command {program}", True, "")]


def test_arguments_are_never_split_nor_looked_at_again() -> None:
    words = {"filepath": "/a b", "sender": '<"%ip $(x) ; \' ` x"@b.test>', "ip": "192.0.2.9"}
    assert filled(["-x", "a%FilePath%ip", "%sender", "%%ip"], words) == [
        "-x", "a/a b192.0.2.9", '<"%ip $(x) ; \' ` x"@b.test>', "%192.0.2.9",
    ]  # fmt: skip


def test_a_large_message_without_the_senders_own_field(bench: Bench) -> None:
    octets = MAIL + b"x" * 1_000_000
    ran = bench.ran(bench.script('stat -c %s "$1"'), "%filepath", octets=octets, field="X-Score")
    assert int(ran.said) == len(TRACE) + len(octets) - len(b"X-Score: 99\r\n")
    assert ran.copy.startswith(TRACE + b"Subject: hello\r\n")


@pytest.mark.parametrize(("text", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -6 $$", -6)])
def test_how_it_ended(bench: Bench, text: str, status: int) -> None:
    assert bench.ran(bench.script(text), "%filepath").status == status


def test_what_it_left_in_its_copy(bench: Bench) -> None:
    change = 'printf "X-Score: 5\\r\\n" | cat - "$1" > new && mv new "$1"'
    assert bench.ran(bench.script(change), "%filepath").copy.startswith(b"X-Score: 5\r\nReceived")
    assert bench.ran(bench.script('rm "$1"'), "%filepath").copy == b""
    assert bench.ran(bench.script('rm "$1"; ln -s /etc/passwd "$1"'), "%filepath").copy == b""
    assert bench.ran(bench.script('rm "$1"; mkfifo "$1"'), "%filepath").copy == b""
    assert bench.ran(bench.script('rm "$1"; mkdir "$1"'), "%filepath").copy == b""


def test_what_it_says_is_bounded(bench: Bench) -> None:
    ran = bench.ran(bench.script("head -c 100000 /dev/zero | tr '\\0' x; echo >&2 err"), "%filepath")
    assert ran.said == "x" * KEPT
    assert bench.until(bench.run(bench.script("yes"), "%filepath")).unavailable == "it says more than anybody should"
    assert bench.ran(bench.script('printf "\\377\\033%s" "$1"'), "%filepath").said == "\ufffd\x1bmessage.eml"
    assert HEARD > 100_000


def test_one_that_does_not_end_is_killed_with_all_that_it_started(bench: Bench) -> None:
    pids = bench.folder / "pids"
    program = bench.script(f'sleep 1000 & echo $! >> {pids}; (sleep 1000) & echo $$ >> {pids}; trap "" TERM; wait')
    outcome = bench.run(program, "%filepath")
    bench.wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    bench.reactor.advance(5.0)
    assert outcome.unavailable == f"command {program} does not answer"
    bench.wait_for(lambda: all(map(gone, map(int, pids.read_text().split()))))
    bench.wait_for(lambda: not bench.left())


def test_what_it_leaves_running_ends_with_it(bench: Bench) -> None:
    ran = bench.ran(bench.script("sleep 1000 & echo $!"), "%filepath")
    bench.wait_for(lambda: gone(int(ran.said)))


def test_nobody_waits_for_it_any_more(bench: Bench) -> None:
    pids = bench.folder / "pids"
    program = bench.script(f"echo $$ > {pids}.new; mv {pids}.new {pids}; sleep 1000")
    outcome = bench.run(program, "%filepath")
    bench.wait_for(pids.exists)
    outcome.deferred.cancel()
    bench.wait_for(lambda: gone(int(pids.read_text())) and not bench.left())
    assert bench.notes == []


def test_at_the_end_of_the_gateway_they_end(bench: Bench) -> None:
    pids = bench.folder / "pids"
    program = bench.script(f"echo $$ > {pids}.new; mv {pids}.new {pids}; sleep 1000")
    outcome = bench.run(program, "%filepath")
    bench.wait_for(pids.exists)
    closed: list[Any] = []
    bench.programs.close().addBoth(closed.append)
    bench.wait_for(lambda: closed)
    assert gone(int(pids.read_text()))
    assert outcome.done and bench.left() == []
    assert bench.until(bench.run(program, "%filepath")).unavailable == "stopping"


def test_one_that_cannot_be_started_is_left_alone_after_five(bench: Bench) -> None:
    missing = str(bench.folder / "none")
    for _ in range(FAILURES):
        why = bench.until(bench.run(missing, "%filepath")).unavailable
        assert why == f"command {missing} cannot be started: No such file or directory"
    assert "is left alone for now" in bench.run(missing, "%filepath").unavailable
    (bench.folder / "none").write_text("#!/bin/sh\n")
    os.chmod(missing, 0o755)
    bench.reactor.advance(PROBE_SECONDS)
    assert bench.ran(missing, "%filepath").status == 0
    bench.script("exit 0")
    assert bench.until(bench.run(str(bench.folder), "%filepath")).unavailable.endswith("Permission denied")
    assert bench.until(bench.run(missing, "\0%filepath")).unavailable.endswith("embedded null byte")


def test_no_more_at_once_than_there_are_places(bench: Bench) -> None:
    log = bench.folder / "log"
    waiting = f"while [ ! -e {bench.folder}/go ]; do sleep 0.01; done"
    program = bench.script(f"echo in >> {log}; {waiting}; echo out >> {log}")
    outcomes = [bench.run(program, "%filepath", at_once=2) for _ in range(6)]
    bench.wait_for(lambda: log.exists() and log.read_text().count("in") == 2)
    (bench.folder / "go").touch()
    for outcome in outcomes:
        assert bench.until(outcome).value.status == 0
    running = most = 0
    for word in log.read_text().split():
        running += 1 if word == "in" else -1
        most = max(most, running)
    assert most == 2 <= THREADS


def test_no_copy_no_program(bench: Bench) -> None:
    bench.scratch.write_text("in the way")
    outcome = bench.until(bench.run("/bin/true", "%filepath"))
    assert outcome.unavailable.startswith("no copy can be made: ")
    bench.scratch.unlink()


def test_what_a_life_before_left_is_swept_away(bench: Bench) -> None:
    (bench.scratch / "left").mkdir(parents=True)
    (bench.scratch / "left" / "message.eml").write_bytes(MAIL)
    bench.programs = bench.again()
    assert bench.left() == []
    bench.ran("/bin/true", "%filepath")
    assert stat.S_IMODE(bench.scratch.stat().st_mode) == 0o700
