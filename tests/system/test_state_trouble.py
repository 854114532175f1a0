"""The memory that all workers share, taken away from a running gateway: what cannot be known is the outcome ``error``,
worth what the INI says; and a flood of strangers is forgotten before who is known."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import DOMAIN, Answer, Gateway, RecordingPrimary, Stage, Wire, domain, letter, stage, until

STRICT = "strict.example"
KNOWN = "known@sender.example"
# From the end of a trouble until it is noticed, and some more.
NOTICED_SECONDS = 20


class Forgetful:
    """Mail is put off once, and counted; each check has a weight for what it cannot know."""

    def __init__(self, play: Stage) -> None:
        self.primary: RecordingPrimary = play.recording()
        self.gateway: Gateway = play.gateway(
            domain(self.primary.port)
            + domain(self.primary.port, STRICT, **{"weight.grey.error": "defer"})
            + "[greylisting]\nauto_allow = 0\n[check grey]\nuse = greylist\nweight.error = 5\n"
            "[check rate]\nuse = ratelimit\nby = sender\nlimit = 1000\nwindow = 10m\nweight.error = 3\n"
            "[abuse connections]\nwindow = 10m\nlimit = 1000\nblock = 60m\n",
            launcher="warped",
            start=False,
        )
        self.numbers = iter(range(1000))

    @property
    def file(self) -> Path:
        return self.gateway.data / "state.sqlite"

    def events(self) -> list[str]:
        return [each["event"] for each in self.gateway.log_events() if each["event"].startswith("state_")]

    def rcpt(self, sender: str, recipient: str = f"user@{DOMAIN}") -> Answer:
        with Wire(self.gateway.port) as wire:
            wire.hello()
            return wire.envelope(sender, recipient)[1]

    def checks(self, sender: str = KNOWN) -> str:
        """X-Spam-Checks of a message that is taken, or the answer to one that is not."""
        marker = f"number {next(self.numbers)}."
        with Wire(self.gateway.port) as wire:
            wire.hello()
            for answer in wire.envelope(sender, f"user@{DOMAIN}"):
                if answer.code != 250:
                    return str(answer)
            answer = wire.content(letter(marker))
        assert answer.code == 250, answer
        mail = self.primary.one(f"Subject: {marker}\r\n".encode())
        self.last = answer
        return mail.field("X-Spam-Checks")[0]

    def knows(self) -> None:
        """Runs, and knows one stranger, on the disk as well."""
        if not self.gateway.running:
            self.gateway.start()
        if self.rcpt(KNOWN).code == 451:
            self.gateway.pass_time(16 * 60)
        self.checks()
        until("it is on the disk", lambda: self.gateway.listed("greylist", "list", "--state", "known", KNOWN))

    def well_again(self) -> None:
        self.gateway.pass_time(NOTICED_SECONDS)
        until("it has recovered", lambda: self.events()[-1] == "state_recovered")


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Forgetful]:
    with stage() as play:
        made = Forgetful(play)
        yield made
        assert made.gateway.faults() == []


@contextlib.contextmanager
def holder(file: Path, *statements: str) -> Iterator[None]:
    """Another process that has the file."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        yield
        connection.execute("ROLLBACK")


def test_a_start_while_another_has_the_file_for_itself(forgetful: Forgetful) -> None:
    forgetful.gateway.data.mkdir(mode=0o700)
    with holder(forgetful.file, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"):
        forgetful.gateway.start()
        # Nobody is refused for what we cannot know, unless that is said.
        assert forgetful.checks() == "grey=error(5) rate=error(3)"
        told = until("its story", lambda: forgetful.gateway.command("explain", forgetful.last.id, status=None))
        assert "database is locked" in told, told
        answer = forgetful.rcpt(KNOWN, f"user@{STRICT}")
        assert answer.code == 451, answer
        assert forgetful.events() == ["state_failing"]
    forgetful.well_again()
    assert forgetful.rcpt(KNOWN).code == 451
    forgetful.gateway.pass_time(16 * 60)
    assert forgetful.checks() == "grey=passed(0) rate=within(0)"
    assert forgetful.checks() == "grey=known(0) rate=within(0)"
    assert forgetful.rcpt(KNOWN, f"user@{STRICT}").code == 451


def test_a_file_that_another_locks_while_we_run(forgetful: Forgetful) -> None:
    forgetful.knows()
    before = len(forgetful.events())
    with holder(forgetful.file, "BEGIN EXCLUSIVE"):
        # It can be read; nothing more can be counted, once that is noticed.
        until("it is noticed", lambda: forgetful.checks() == "grey=known(0) rate=error(3)")
        # An operator is told so; an address is blocked all the same.
        gateway = forgetful.gateway
        gateway.command("greylist", "forget", "nobody@", status=1)
        assert gateway.command("blocks", "add", "192.0.2.9").startswith("blocked: 192.0.2.9")
        # Who is new is put off, and once only.
        assert forgetful.rcpt("new@sender.example").code == 451
        forgetful.gateway.pass_time(16 * 60)
        assert forgetful.rcpt("new@sender.example").code == 250
    forgetful.well_again()
    assert forgetful.checks() == "grey=known(0) rate=within(0)"
    assert forgetful.rcpt("new@sender.example").code == 250
    assert forgetful.events()[before:] == ["state_failing", "state_recovered"]


def test_a_file_on_a_full_disk(forgetful: Forgetful, play: Stage) -> None:
    forgetful.knows()
    before = len(forgetful.events())
    full = play.sabotage(
        forgetful.gateway, "pwrite64,write,ftruncate,fallocate:error=ENOSPC", *forgetful.file.parent.glob("state.*")
    )
    until("it is noticed", lambda: forgetful.checks() == "grey=known(0) rate=error(3)")
    assert forgetful.rcpt("late@sender.example").code == 451
    full.close()
    forgetful.well_again()
    assert forgetful.checks() == "grey=known(0) rate=within(0)"
    assert forgetful.events()[before:] == ["state_failing", "state_recovered"]


# --- a flood ----------------------------------------------------------------------------------------------------------


def test_a_flood_of_strangers_is_forgotten_before_who_is_known(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(
        domain(primary.port)
        + "[greylisting]\nblock = 1s\n[check grey]\nuse = greylist\n"
        + "[smtp]\nmax_junk_commands = 100000\nmax_bad_commands = 100000\n",
        launcher="small",
    )

    def rcpt(*senders: str) -> list[int]:
        with Wire(gateway.port) as wire:
            wire.hello()
            said = (f"MAIL FROM:<{sender}>\r\nRCPT TO:<user@{DOMAIN}>\r\nRSET\r\n" for sender in senders)
            wire.send("".join(said).encode())
            return [wire.reply().code for _ in range(3 * len(senders))][1::3]

    assert rcpt(KNOWN) == [451]
    until("it passes", lambda: rcpt(KNOWN) == [250])
    letters = "abcdefghijk"
    for first in letters:
        flood = [f"{first}{second}{third}@flood.example" for second in letters for third in letters]
        assert set(rcpt(*flood)) == {451}
        assert rcpt(KNOWN) == [250]

    def rows() -> int:
        with contextlib.closing(sqlite3.connect(gateway.data / "state.sqlite")) as connection:
            return int(connection.execute("SELECT count(*) FROM fact").fetchone()[0])

    # More than four times its bound have come.
    until("few are left", lambda: 0 < rows() <= 300)
    assert [row["state"] for row in gateway.listed("greylist", "list", KNOWN)] == ["known"]
    gateway.restart()
    assert rcpt(KNOWN) == [250]
    assert rcpt("aaa@flood.example") == [451]
